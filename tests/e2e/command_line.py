"""boto3's client of AWS IoT as far as control_plane.py uses it, by the AWS CLI: each call is a command."""

import contextlib
import io
import json
import os
import re

from awscli.clidriver import create_clidriver
from botocore.exceptions import ClientError


class CommandLine:
    """`client.create_thing(thingName="L")` is `aws iot create-thing --cli-input-json …`."""

    def __init__(self, endpoint, key, secret, heard):
        os.environ.update(
            AWS_ACCESS_KEY_ID=key,
            AWS_SECRET_ACCESS_KEY=secret,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ENDPOINT_URL=endpoint,
            AWS_MAX_ATTEMPTS="1",
            AWS_DEFAULT_OUTPUT="json",
        )
        self.driver = create_clidriver()
        self.driver.session.register("after-call.iot", heard)

    def __getattr__(self, operation):
        return lambda **parameters: self.run(operation, parameters)

    def run(self, operation, parameters):
        # The CLI takes a blob as the text that it is.
        given = json.dumps(parameters, default=bytes.decode)
        command = ["iot", operation.replace("_", "-"), "--cli-input-json", given]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.driver.main([*command, "--no-paginate"])
        if code == 0:
            return json.loads(out.getvalue() or "{}")
        refusal = re.search(r"An error occurred \((\w+)\) when calling", err.getvalue())
        assert refusal, f"{' '.join(command)}: {code}: {err.getvalue()}"
        error = {"Code": refusal.group(1), "Message": err.getvalue()}
        raise ClientError({"Error": error}, operation)

    def get_paginator(self, operation):
        return Pages(self, operation)


class Pages:
    """The pages that the CLI puts together; where an operation has a `--page-size` of its own, it shows
    them one by one."""

    def __init__(self, client, operation):
        self.client, self.operation = client, operation

    def paginate(self, PaginationConfig, **parameters):
        size = str(PaginationConfig["PageSize"])
        command = ["iot", self.operation.replace("_", "-"), "--page-size", size]
        pages = []
        while not pages or "nextMarker" in pages[-1]:
            if pages:
                parameters["marker"] = pages[-1]["nextMarker"]
            out = io.StringIO()
            given = ["--cli-input-json", json.dumps(parameters)]
            with contextlib.redirect_stdout(out):
                code = self.client.driver.main([*command, *given])
            assert code == 0, command
            pages.append(json.loads(out.getvalue()))
        return pages
