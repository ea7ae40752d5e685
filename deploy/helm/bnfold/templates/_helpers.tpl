{{- define "bnfold.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "bnfold.selector" -}}
app.kubernetes.io/name: bnfold
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bnfold.labels" -}}
{{ include "bnfold.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* The image of a part: its own values over the chart's. A digest wins over a tag. */ -}}
{{- define "bnfold.image" -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) (default dict .own) -}}
{{- if and .own (hasKey .own "tag") (not (hasKey .own "digest")) -}}{{- $_ := set $image "digest" "" -}}{{- end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "bnfold.secretName" -}}
{{- .Values.existingSecret | default (include "bnfold.name" .) -}}
{{- end -}}

{{- /* Settings and secrets of every process. A job before the installation can read no ConfigMap of the release. */ -}}
{{- define "bnfold.environment" -}}
- {name: BNFOLD_ENGINE, value: procrastinate}
- {name: BNFOLD_REQUIRE_KEYS, value: "true"}
- {name: BNFOLD_BLOB_URL, value: {{ .Values.store.url | quote }}}
- {name: BNFOLD_S3_REGION, value: {{ .Values.store.region | quote }}}
{{- with .Values.store.endpoint }}
- {name: BNFOLD_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- $pools := list }}
{{- range $pool, $worker := .Values.workers }}{{ if $worker.enabled }}{{ $pools = append $pools $pool }}{{ end }}{{ end }}
- {name: BNFOLD_POOLS, value: {{ join "," $pools | quote }}}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "bnfold.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- end -}}

{{- define "bnfold.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}
