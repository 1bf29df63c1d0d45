"""Fleet provisioning with the AWS IoT Device SDK for Python, as its samples do it.

Arguments: MQTT port, CA file, URL of the REST API, access key id and secret, an empty folder, a
certificate signing request and its key, and optionally a plugin that is a hook and lets the serial numbers
1 to 3 in.
A claim of the fleet, then one of a trusted user, then a signing request; each device connects with what it
got and publishes. Exit code 0: everything came back as it should.
"""

import json
import pathlib
import sys
from concurrent.futures import Future

import boto3
from awscrt import mqtt5, mqtt_request_response
from awsiot import V2ServiceException, iotidentity, mqtt5_client_builder

TIMEOUT_S = 20
TEMPLATE = "lamps"

port, ca_file, api, key_id, secret, folder, csr_file, csr_key, *hook = sys.argv[1:]
folder = pathlib.Path(folder)
iot = boto3.client(
    "iot",
    endpoint_url=api,
    region_name="us-east-1",
    aws_access_key_id=key_id,
    aws_secret_access_key=secret,
)


def policy(*statements):
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": action, "Resource": resource}
                for action, resource in statements
            ],
        }
    )


def arn(resource):
    return f"arn:aws:iot:us-east-1:123456789012:{resource}"


template = {
    "Parameters": {"SerialNumber": {"Type": "String"}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Fn::Join": ["", ["lamp-", {"Ref": "SerialNumber"}]]},
                "AttributePayload": {"serial": {"Ref": "SerialNumber"}},
            },
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"},
                "Status": "Active",
            },
        },
        "policy": {
            "Type": "AWS::IoT::Policy",
            "Properties": {
                "PolicyDocument": policy(
                    ("iot:Connect", arn("client/${iot:Connection.Thing.ThingName}")),
                    ("iot:Publish", arn("topic/${iot:Connection.Thing.ThingName}/up")),
                )
            },
        },
    },
    "DeviceConfiguration": {"interval": "60"},
}


class Connection:
    """A connected client; leaves at the end of `with`."""

    def __init__(self, client_id, certificate, private_key):
        self.connected, self.stopped = Future(), Future()
        self.client = mqtt5_client_builder.mtls_from_path(
            cert_filepath=str(certificate),
            pri_key_filepath=str(private_key),
            ca_filepath=ca_file,
            endpoint="localhost",
            port=int(port),
            client_id=client_id,
            on_lifecycle_connection_success=self.connected.set_result,
            on_lifecycle_connection_failure=lambda data: self.connected.done()
            or self.connected.set_exception(data.exception),
            on_lifecycle_stopped=self.stopped.set_result,
        )

    def __enter__(self):
        self.client.start()
        self.connected.result(TIMEOUT_S)
        return self.client

    def __exit__(self, *_):
        self.client.stop()
        self.stopped.result(TIMEOUT_S)


def identity_client(client):
    options = mqtt_request_response.ClientOptions(
        max_request_response_subscriptions=2,
        max_streaming_subscriptions=0,
        operation_timeout_in_seconds=TIMEOUT_S,
    )
    return iotidentity.IotIdentityClientV2(client, options)


def write(name, text):
    path = folder / name
    path.write_text(text)
    return path


def register(identity, token, serial):
    request = iotidentity.RegisterThingRequest(
        template_name=TEMPLATE,
        certificate_ownership_token=token,
        parameters={"SerialNumber": serial},
    )
    registered = identity.register_thing(request).result(TIMEOUT_S)
    assert registered.thing_name == f"lamp-{serial}", registered
    assert registered.device_configuration == {"interval": "60"}, registered


def refused(identity, token, serial, error_code):
    try:
        register(identity, token, serial)
    except V2ServiceException as error:
        assert error.modeled_error.error_code == error_code, error.modeled_error
    else:
        raise AssertionError(f"a device was provisioned, which should be told {error_code}")


def publish(thing, certificate, private_key):
    with Connection(thing, certificate, private_key) as client:
        packet = mqtt5.PublishPacket(topic=f"{thing}/up", payload="on", qos=mqtt5.QoS.AT_LEAST_ONCE)
        puback = client.publish(packet).result(TIMEOUT_S).puback
        assert puback.reason_code in (
            mqtt5.PubackReasonCode.SUCCESS,
            mqtt5.PubackReasonCode.NO_MATCHING_SUBSCRIBERS,
        ), puback


def provision(claim_certificate, claim_key, serial):
    """A new key pair from the host, then the thing; the device then is that thing."""
    with Connection(f"claim-{serial}", claim_certificate, claim_key) as client:
        identity = identity_client(client)
        request = iotidentity.CreateKeysAndCertificateRequest()
        made = identity.create_keys_and_certificate(request).result(TIMEOUT_S)
        refused(identity, "not a token", serial, "InvalidCertificateOwnershipToken")
        if hook:
            refused(identity, made.certificate_ownership_token, "9", "ACCESS_DENIED")
        register(identity, made.certificate_ownership_token, serial)
    certificate = write(f"{serial}.pem", made.certificate_pem)
    publish(f"lamp-{serial}", certificate, write(f"{serial}.key", made.private_key))


iot.create_provisioning_template(
    templateName=TEMPLATE,
    templateBody=json.dumps(template),
    provisioningRoleArn="arn:aws:iam::123456789012:role/provisioning",
    enabled=True,
    **(
        {"preProvisioningHook": {"targetArn": f"arn:aws:lambda:us-east-1:123456789012:function:{hook[0]}"}}
        if hook
        else {}
    ),
)

claim = iot.create_keys_and_certificate(setAsActive=True)
iot.create_policy(
    policyName="Claim",
    policyDocument=policy(
        ("iot:Connect", "*"),
        (
            ["iot:Publish", "iot:Receive"],
            [arn("topic/$aws/certificates/*"), arn(f"topic/$aws/provisioning-templates/{TEMPLATE}/*")],
        ),
        (
            "iot:Subscribe",
            [
                arn("topicfilter/$aws/certificates/*"),
                arn(f"topicfilter/$aws/provisioning-templates/{TEMPLATE}/*"),
            ],
        ),
    ),
)
iot.attach_policy(policyName="Claim", target=claim["certificateArn"])
claim_certificate = write("claim.pem", claim["certificatePem"])
claim_key = write("claim.key", claim["keyPair"]["PrivateKey"])
provision(claim_certificate, claim_key, "1")

trusted = iot.create_provisioning_claim(templateName=TEMPLATE)
provision(
    write("trusted.pem", trusted["certificatePem"]),
    write("trusted.key", trusted["keyPair"]["PrivateKey"]),
    "2",
)

with Connection("claim-3", claim_certificate, claim_key) as client:
    identity = identity_client(client)
    request = iotidentity.CreateCertificateFromCsrRequest(
        certificate_signing_request=pathlib.Path(csr_file).read_text()
    )
    made = identity.create_certificate_from_csr(request).result(TIMEOUT_S)
    register(identity, made.certificate_ownership_token, "3")
publish("lamp-3", write("3.pem", made.certificate_pem), csr_key)

names = {thing["thingName"] for thing in iot.list_things()["things"]}
assert names == {"lamp-1", "lamp-2", "lamp-3"}, names
