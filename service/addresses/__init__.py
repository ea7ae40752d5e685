"""Models and artifacts at addresses: https, S3, Google and Azure storage, model hubs.

    with transfer.fetched(address.parse("s3://bucket/model.onnx#sha256:…")) as path: ...
    transfer.send(file, address.parse("gs://bucket/folded.onnx"))

An address may end in `#sha256:<64 hex digits>`: what arrives must have this digest. Credentials come from
where the tools of each store look for them (AWS_…, GOOGLE_…, AZURE_… variables, the hub's own login).
"""
