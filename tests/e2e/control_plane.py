"""The control plane as boto3 and the AWS CLI know it: every operation that Gnomon has is called, and every
answer and error is held against botocore's own model of AWS IoT.

Arguments: the endpoint, an access key and its secret, the certificate of a CA and one that it signed; who
calls: boto3 or awscli.
"""

import json
import pathlib
import sys
import time
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from command_line import CommandLine

ENDPOINT, KEY, SECRET, CA_FILE, DEVICE_FILE, CALLER = sys.argv[1:]
ACCOUNT = "arn:aws:iot:us-east-1:123456789012:"
DOCUMENT = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}],
    }
)

ROLE = "arn:aws:iam::123456789012:role/provisioning"
TEMPLATE = json.dumps(
    {
        "Resources": {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
            }
        }
    }
)

SCALARS = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "double": (int, float),
    "float": (int, float),
    "timestamp": (int, float),
    "blob": str,
}

called = set()


def check(shape, value, where):
    """What the host wrote is of the shape that the model says."""
    if shape.type_name == "structure":
        assert isinstance(value, dict), f"{where}: {value!r} is no object"
        members = {
            member.serialization.get("name", name): member
            for name, member in shape.members.items()
            if "location" not in member.serialization
        }
        for name, inner in value.items():
            assert name in members, f"{where}: {name} is not in the model"
            check(members[name], inner, f"{where}.{name}")
        for name in shape.required_members:
            assert name in value, f"{where}: {name} is missing"
    elif shape.type_name == "list":
        assert isinstance(value, list), f"{where}: {value!r} is no list"
        for at, inner in enumerate(value):
            check(shape.member, inner, f"{where}[{at}]")
    elif shape.type_name == "map":
        assert isinstance(value, dict), f"{where}: {value!r} is no map"
        for name, inner in value.items():
            check(shape.value, inner, f"{where}.{name}")
    else:
        expected = SCALARS[shape.type_name]
        is_it = isinstance(value, expected) and (shape.type_name == "boolean" or value is not True)
        assert is_it, f"{where}: {value!r} is no {shape.type_name}"
        if getattr(shape, "enum", None):
            assert value in shape.enum, f"{where}: {value!r} is none of {shape.enum}"


def answered(http_response, model, **_):
    called.add(model.name)
    if http_response.status_code < 300:
        if model.output_shape:
            check(model.output_shape, json.loads(http_response.content or b"{}"), model.name)
        return
    error = http_response.headers["x-amzn-errortype"]
    declared = {shape.name: shape for shape in model.error_shapes}
    universal = {"AccessDeniedException", "NotImplementedException"}
    assert error in declared or error in universal, f"{model.name}: {error} is not declared"
    if error in declared:
        status = declared[error].metadata.get("error", {}).get("httpStatusCode")
        assert http_response.status_code == status, f"{error}: {http_response.status_code}"


if CALLER == "awscli":
    client = CommandLine(ENDPOINT, KEY, SECRET, answered)
else:
    client = boto3.client(
        "iot",
        region_name="us-east-1",
        endpoint_url=ENDPOINT,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}),
    )
    client.meta.events.register("after-call.iot", answered)


def refused(code, operation, **parameters):
    """Calls an operation that must fail so."""
    try:
        operation(**parameters)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return
    raise AssertionError(f"{operation} was not refused with {code}")


def gnomon(method, path, body=b""):
    """Calls an operation that AWS does not have."""
    request = AWSRequest(method, f"{ENDPOINT}{path}", data=body)
    SigV4Auth(Credentials(KEY, SECRET), "gnomon", "us-east-1").add_auth(request)
    headers = dict(request.headers)
    call = urllib.request.Request(request.url, body, headers, method=method)
    with urllib.request.urlopen(call) as answer:
        return answer.read()


def things():
    client.create_thing_type(
        thingTypeName="Lamp",
        thingTypeProperties={"thingTypeDescription": "light", "searchableAttributes": ["watts"]},
        tags=[{"Key": "site", "Value": "hall"}],
    )
    assert client.describe_thing_type(thingTypeName="Lamp")["thingTypeName"] == "Lamp"
    client.create_billing_group(
        billingGroupName="dept", billingGroupProperties={"billingGroupDescription": "ours"}
    )
    client.create_thing(
        thingName="L1",
        thingTypeName="Lamp",
        attributePayload={"attributes": {"watts": "7"}},
        billingGroupName="dept",
    )
    client.create_thing(thingName="L2")
    described = client.describe_thing(thingName="L1")
    assert (described["thingTypeName"], described["billingGroupName"]) == ("Lamp", "dept")
    refused("ResourceAlreadyExistsException", client.create_thing, thingName="L1")
    refused("ResourceNotFoundException", client.create_thing, thingName="X", thingTypeName="None")
    refused("ResourceNotFoundException", client.describe_thing, thingName="None")
    client.update_thing(thingName="L1", attributePayload={"attributes": {"a": "b"}, "merge": True})
    refused("VersionConflictException", client.update_thing, thingName="L1", expectedVersion=9)
    found = client.list_things(attributeName="watts", attributeValue="7")["things"]
    assert [thing["thingName"] for thing in found] == ["L1"]
    propagating = [{"userPropertyKey": "site", "thingAttribute": "site"}]
    properties = {"mqtt5Configuration": {"propagatingAttributes": propagating}}
    client.update_thing_type(thingTypeName="Lamp", thingTypeProperties=properties)
    described = client.describe_thing_type(thingTypeName="Lamp")["thingTypeProperties"]
    assert described["mqtt5Configuration"] == properties["mqtt5Configuration"]
    assert described["searchableAttributes"] == ["watts"]
    refused("ResourceNotFoundException", client.update_thing_type, thingTypeName="None")
    pages = client.get_paginator("list_things").paginate(PaginationConfig={"PageSize": 1})
    assert [thing["thingName"] for page in pages for thing in page["things"]] == ["L1", "L2"]


def groups():
    client.create_thing_group(
        thingGroupName="site",
        thingGroupProperties={
            "thingGroupDescription": "all",
            "attributePayload": {"attributes": {"floor": "1"}},
        },
    )
    client.create_thing_group(thingGroupName="hall", parentGroupName="site")
    client.add_thing_to_thing_group(thingName="L1", thingGroupName="hall")
    metadata = client.describe_thing_group(thingGroupName="hall")["thingGroupMetadata"]
    assert [it["groupName"] for it in metadata["rootToParentThingGroups"]] == ["site"]
    properties = {"thingGroupDescription": "more"}
    updated = client.update_thing_group(thingGroupName="site", thingGroupProperties=properties)
    assert updated["version"] == 2
    names = [it["groupName"] for it in client.list_thing_groups()["thingGroups"]]
    assert names == ["hall", "site"], names
    inside = client.list_things_in_thing_group(thingGroupName="site", recursive=True)["things"]
    assert inside == ["L1"]
    assert client.list_thing_groups_for_thing(thingName="L1")["thingGroups"]
    client.update_thing_groups_for_thing(thingName="L2", thingGroupsToAdd=["site"])
    client.remove_thing_from_thing_group(thingName="L2", thingGroupName="site")
    refused("InvalidRequestException", client.delete_thing_group, thingGroupName="site")
    client.add_thing_to_billing_group(thingName="L2", billingGroupName="dept")
    assert client.list_things_in_billing_group(billingGroupName="dept")["things"] == ["L1", "L2"]
    client.remove_thing_from_billing_group(thingName="L2", billingGroupName="dept")
    assert client.describe_billing_group(billingGroupName="dept")["version"] == 1
    client.update_billing_group(billingGroupName="dept", billingGroupProperties={})
    assert client.list_billing_groups()["billingGroups"]


def fleet():
    refused("IndexNotReadyException", client.search_index, queryString="*")
    refused("ResourceNotFoundException", client.describe_index, indexName="AWS_Things")
    off = client.get_indexing_configuration()["thingIndexingConfiguration"]
    assert off["thingIndexingMode"] == "OFF" and off["managedFields"]
    client.update_indexing_configuration(
        thingIndexingConfiguration={
            "thingIndexingMode": "REGISTRY_AND_SHADOW",
            "thingConnectivityIndexingMode": "STATUS",
            "filter": {
                "connectivity": {"includeSocketInformation": ["GET_THING_CONNECTIVITY_DATA"]}
            },
            "customFields": [{"name": "attributes.watts", "type": "Number"}],
        },
        thingGroupIndexingConfiguration={"thingGroupIndexingMode": "ON"},
    )
    now = client.get_indexing_configuration()["thingIndexingConfiguration"]
    assert now["filter"]["connectivity"]["includeSocketInformation"], now
    indices = client.list_indices()["indexNames"]
    assert indices == ["AWS_ThingGroups", "AWS_Things"], indices
    for index in indices:
        for _ in range(200):
            described = client.describe_index(indexName=index)
            if described["indexStatus"] == "ACTIVE":
                break
            time.sleep(0.05)
        assert described["indexStatus"] == "ACTIVE", described
    assert described["schema"] == "REGISTRY_AND_SHADOW_AND_CONNECTIVITY_STATUS"
    found = client.search_index(queryString="attributes.watts:7 AND connectivity.connected:false")
    assert [thing["thingName"] for thing in found["things"]] == ["L1"], found
    assert found["things"][0]["connectivity"]["connected"] is False
    found = client.search_index(indexName="AWS_ThingGroups", queryString="parentGroupNames:site")
    assert [group["thingGroupName"] for group in found["thingGroups"]] == ["hall"], found
    refused("InvalidQueryException", client.search_index, queryString="a:(")
    refused("ResourceNotFoundException", client.search_index, queryString="*", indexName="Mine")
    watts = {"queryString": "thingTypeName:Lamp", "aggregationField": "attributes.watts"}
    assert client.get_statistics(**watts)["statistics"]["average"] == 7
    assert client.get_cardinality(**watts)["cardinality"] == 1
    assert client.get_percentiles(**watts, percents=[50])["percentiles"][0]["value"] == 7
    terms = {"termsAggregation": {"maxBuckets": 5}}
    buckets = client.get_buckets_aggregation(**watts, bucketsAggregationType=terms)
    assert buckets["totalCount"] == 1 and buckets["buckets"][0]["keyValue"] == "7", buckets
    refused(
        "InvalidAggregationException",
        client.get_statistics,
        queryString="*",
        aggregationField="attributes.none",
    )
    data = client.get_thing_connectivity_data(thingName="L1", includeSocketInformation=True)
    assert data["connected"] is False
    missing = "ResourceNotFoundException"
    refused(missing, client.get_thing_connectivity_data, thingName="None")
    group = {"thingGroupName": "watts"}
    made = client.create_dynamic_thing_group(**group, queryString="attributes.watts:7")
    assert made["indexName"] == "AWS_Things" and made["queryVersion"] == "2017-09-30", made
    assert client.list_things_in_thing_group(**group)["things"] == ["L1"]
    assert client.describe_thing_group(**group)["status"] == "ACTIVE"
    invalid = "InvalidRequestException"
    refused(invalid, client.add_thing_to_thing_group, thingName="L2", **group)
    refused(invalid, client.delete_thing_group, **group)
    refused("InvalidQueryException", client.create_dynamic_thing_group,
            thingGroupName="bad", queryString="a:")
    updated = client.update_dynamic_thing_group(
        **group, thingGroupProperties={}, queryString="attributes.watts<7"
    )
    assert updated["version"] == 2
    assert client.list_things_in_thing_group(**group)["things"] == []
    refused("VersionConflictException", client.delete_dynamic_thing_group,
            **group, expectedVersion=1)
    client.delete_dynamic_thing_group(**group)
    client.update_indexing_configuration(
        thingIndexingConfiguration={"thingIndexingMode": "OFF"},
        thingGroupIndexingConfiguration={"thingGroupIndexingMode": "OFF"},
    )
    assert client.list_indices()["indexNames"] == []


def events():
    described = client.describe_event_configurations()
    assert len(described["eventConfigurations"]) == 11
    assert not any(it["Enabled"] for it in described["eventConfigurations"].values())
    client.update_event_configurations(eventConfigurations={"THING": {"Enabled": True}})
    described = client.describe_event_configurations()
    enabled = {name for name, it in described["eventConfigurations"].items() if it["Enabled"]}
    assert enabled == {"THING"}, enabled
    assert described["creationDate"] <= described["lastModifiedDate"]
    refused(
        "InvalidRequestException",
        client.update_event_configurations,
        eventConfigurations={"NONE": {"Enabled": True}},
    )


def tags():
    arn = f"{ACCOUNT}thingtype/Lamp"
    client.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "b"}])
    client.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == [
        {"Key": "site", "Value": "hall"}
    ]
    refused(
        "ResourceNotFoundException",
        client.list_tags_for_resource,
        resourceArn=f"{ACCOUNT}thingtype/None",
    )


def policies():
    certificate = client.create_keys_and_certificate(setAsActive=True)
    arn, identifier = certificate["certificateArn"], certificate["certificateId"]
    assert client.describe_certificate(certificateId=identifier)["certificateDescription"]
    assert client.list_certificates()["certificates"]
    client.create_policy(policyName="P", policyDocument=DOCUMENT)
    refused("MalformedPolicyException", client.create_policy, policyName="Q", policyDocument="{")
    client.create_policy_version(policyName="P", policyDocument=DOCUMENT)
    assert len(client.list_policy_versions(policyName="P")["policyVersions"]) == 2
    assert client.get_policy_version(policyName="P", policyVersionId="2")
    client.set_default_policy_version(policyName="P", policyVersionId="2")
    client.delete_policy_version(policyName="P", policyVersionId="1")
    assert client.get_policy(policyName="P")["defaultVersionId"] == "2"
    assert client.list_policies()["policies"]
    group = f"{ACCOUNT}thinggroup/hall"
    for target in (arn, group):
        client.attach_policy(policyName="P", target=target)
        assert client.list_attached_policies(target=target)["policies"]
    assert client.list_targets_for_policy(policyName="P")["targets"] == [arn, group]
    client.attach_thing_principal(thingName="L1", principal=arn)
    assert client.list_thing_principals(thingName="L1")["principals"] == [arn]
    assert client.list_principal_things(principal=arn)["things"] == ["L1"]
    listed = client.list_thing_principals_v2(thingName="L1")["thingPrincipalObjects"]
    assert [it["thingPrincipalType"] for it in listed] == ["NON_EXCLUSIVE_THING"]
    listed = client.list_principal_things_v2(principal=arn)["principalThingObjects"]
    assert [it["thingName"] for it in listed] == ["L1"]
    exclusive = {"principal": arn, "thingPrincipalType": "EXCLUSIVE_THING"}
    refused("InvalidRequestException", client.attach_thing_principal, thingName="L2", **exclusive)
    effective = client.get_effective_policies(principal=arn, thingName="L1")["effectivePolicies"]
    assert [policy["policyName"] for policy in effective] == ["P"]
    connect = {"actionType": "CONNECT", "resources": [f"{ACCOUNT}client/L1"]}
    tested = client.test_authorization(principal=arn, clientId="L1", authInfos=[connect])
    assert tested["authResults"][0]["authDecision"] == "ALLOWED"
    refused("DeleteConflictException", client.delete_policy, policyName="P")
    refused("InvalidRequestException", client.delete_thing, thingName="L1")
    for target in (arn, group):
        client.detach_policy(policyName="P", target=target)
    client.attach_principal_policy(policyName="P", principal=arn)
    assert client.list_principal_policies(principal=arn)["policies"]
    assert client.list_policy_principals(policyName="P")["principals"] == [arn]
    client.detach_principal_policy(policyName="P", principal=arn)
    client.detach_thing_principal(thingName="L1", principal=arn)
    refused("CertificateStateException", client.delete_certificate, certificateId=identifier)
    client.update_certificate(certificateId=identifier, newStatus="INACTIVE")
    client.delete_certificate(certificateId=identifier)


def rules():
    payload = {"sql": "SELECT * FROM 'a'", "actions": [], "awsIotSqlVersion": "2016-03-23"}
    client.create_topic_rule(ruleName="R", topicRulePayload=payload, tags="site=hall")
    assert client.list_tags_for_resource(resourceArn=f"{ACCOUNT}rule/R")["tags"]
    assert client.get_topic_rule(ruleName="R")["rule"]["sql"] == payload["sql"]
    assert client.list_topic_rules()["rules"]
    client.disable_topic_rule(ruleName="R")
    client.enable_topic_rule(ruleName="R")
    client.replace_topic_rule(ruleName="R", topicRulePayload=payload)
    broken = {**payload, "sql": "SELECT"}
    refused("SqlParseException", client.create_topic_rule, ruleName="B", topicRulePayload=broken)
    refused("UnauthorizedException", client.get_topic_rule, ruleName="None")
    client.delete_topic_rule(ruleName="R")
    assert client.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]


def authorizers():
    function = "arn:aws:lambda:us-east-1:123456789012:function:keeper"
    for name in ("A1", "A2"):
        made = client.create_authorizer(
            authorizerName=name,
            authorizerFunctionArn=function,
            signingDisabled=True,
            status="ACTIVE",
            tags=[{"Key": "site", "Value": "hall"}],
        )
        assert made["authorizerArn"] == f"{ACCOUNT}authorizer/{name}"
    refused(
        "ResourceAlreadyExistsException",
        client.create_authorizer,
        authorizerName="A1",
        authorizerFunctionArn=function,
        signingDisabled=True,
    )
    refused(
        "InvalidRequestException",
        client.create_authorizer,
        authorizerName="A3",
        authorizerFunctionArn=function,
        tokenKeyName="token",
        tokenSigningPublicKeys={"k": "no key"},
    )
    described = client.describe_authorizer(authorizerName="A1")["authorizerDescription"]
    assert (described["status"], described["authorizerFunctionArn"]) == ("ACTIVE", function)
    assert client.list_tags_for_resource(resourceArn=f"{ACCOUNT}authorizer/A1")["tags"]
    pages = client.get_paginator("list_authorizers").paginate(
        ascendingOrder=False, PaginationConfig={"PageSize": 1}
    )
    names = [it["authorizerName"] for page in pages for it in page["authorizers"]]
    assert names == ["A2", "A1"], names
    refused("ResourceNotFoundException", client.describe_default_authorizer)
    refused("ResourceNotFoundException", client.clear_default_authorizer)
    client.set_default_authorizer(authorizerName="A1")
    refused("ResourceAlreadyExistsException", client.set_default_authorizer, authorizerName="A2")
    default = client.describe_default_authorizer()["authorizerDescription"]
    assert default["authorizerName"] == "A1"
    # This host has no such plugin.
    refused(
        "InvalidRequestException",
        client.test_invoke_authorizer,
        authorizerName="A1",
        token="t",
        mqttContext={"username": "u", "password": b"p", "clientId": "L1"},
        httpContext={"headers": {"a": "b"}, "queryString": "c=d"},
        tlsContext={"serverName": "iot.example"},
    )
    refused("ResourceNotFoundException", client.test_invoke_authorizer, authorizerName="None")
    refused("DeleteConflictException", client.delete_authorizer, authorizerName="A1")
    client.clear_default_authorizer()
    for name in ("A1", "A2"):
        client.update_authorizer(authorizerName=name, status="INACTIVE", enableCachingForHttp=True)
        client.delete_authorizer(authorizerName=name)
    refused("ResourceNotFoundException", client.update_authorizer, authorizerName="A1")
    assert client.list_authorizers(status="ACTIVE")["authorizers"] == []


def role_aliases():
    role = "arn:aws:iam::123456789012:role/gate"
    tags = [{"Key": "site", "Value": "hall"}]
    made = client.create_role_alias(roleAlias="gate", roleArn=role, tags=tags)
    assert client.list_tags_for_resource(resourceArn=made["roleAliasArn"])["tags"] == tags
    client.update_role_alias(roleAlias="gate", credentialDurationSeconds=900)
    described = client.describe_role_alias(roleAlias="gate")["roleAliasDescription"]
    assert (described["roleArn"], described["credentialDurationSeconds"]) == (role, 900)
    assert client.list_role_aliases()["roleAliases"] == ["gate"]
    exists, invalid = "ResourceAlreadyExistsException", "InvalidRequestException"
    refused(exists, client.create_role_alias, roleAlias="gate", roleArn=role)
    refused(invalid, client.create_role_alias, roleAlias="x", roleArn="no ARN, twenty bytes")
    client.delete_role_alias(roleAlias="gate")
    refused("ResourceNotFoundException", client.delete_role_alias, roleAlias="gate")


def domain_configurations():
    of = {"domainConfigurationName": "gate"}
    authorizer = {"defaultAuthorizerName": "users", "allowAuthorizerOverride": True}
    client.create_domain_configuration(
        **of, domainName="gate.example.com", serviceType="DATA", authorizerConfig=authorizer
    )
    described = client.describe_domain_configuration(**of)
    assert described["domainConfigurationStatus"] == "ENABLED"
    assert described["authorizerConfig"] == authorizer
    assert client.list_domain_configurations(serviceType="DATA")["domainConfigurations"]
    exists, invalid = "ResourceAlreadyExistsException", "InvalidRequestException"
    refused(exists, client.create_domain_configuration, **of)
    refused(
        invalid,
        client.create_domain_configuration,
        domainConfigurationName="x",
        serverCertificateArns=["arn:aws:acm:us-east-1:123456789012:certificate/1"],
    )
    refused(invalid, client.delete_domain_configuration, **of)
    client.update_domain_configuration(**of, domainConfigurationStatus="DISABLED")
    client.delete_domain_configuration(**of)
    refused("ResourceNotFoundException", client.describe_domain_configuration, **of)


def logging():
    refused("NotConfiguredException", client.get_v2_logging_options)
    refused("NotConfiguredException", client.list_v2_logging_levels)
    assert "logLevel" not in client.get_logging_options()
    role = "arn:aws:iam::123456789012:role/logs"
    client.set_v2_logging_options(roleArn=role, defaultLogLevel="INFO")
    assert client.get_v2_logging_options()["defaultLogLevel"] == "INFO"
    target = {"targetType": "CLIENT_ID", "targetName": "L1"}
    client.set_v2_logging_level(logTarget=target, logLevel="DEBUG")
    client.set_v2_logging_level(logTarget={"targetType": "DEFAULT"}, logLevel="WARN")
    levels = client.list_v2_logging_levels()["logTargetConfigurations"]
    assert [level["logLevel"] for level in levels] == ["DEBUG", "WARN"], levels
    wrong = {"targetType": "SOURCE_IP", "targetName": "none"}
    invalid = "InvalidRequestException"
    refused(invalid, client.set_v2_logging_level, logTarget=wrong, logLevel="INFO")
    client.delete_v2_logging_level(**target)
    payload = {"roleArn": role, "logLevel": "ERROR"}
    client.set_logging_options(loggingOptionsPayload=payload)
    assert client.get_logging_options()["logLevel"] == "ERROR"
    # For the parts that follow.
    client.set_v2_logging_options(defaultLogLevel="INFO")


def end():
    client.delete_policy(policyName="P")
    for name in ("L1", "L2"):
        client.delete_thing(thingName=name)
    for name in ("hall", "site"):
        client.delete_thing_group(thingGroupName=name)
    client.delete_billing_group(billingGroupName="dept")
    refused("InvalidRequestException", client.delete_thing_type, thingTypeName="Lamp")
    client.deprecate_thing_type(thingTypeName="Lamp")
    assert client.list_thing_types()["thingTypes"][0]["thingTypeMetadata"]["deprecated"]
    client.delete_thing_type(thingTypeName="Lamp")


def cas():
    ca, device = (pathlib.Path(file).read_text() for file in (CA_FILE, DEVICE_FILE))
    code = client.get_registration_code()["registrationCode"]
    assert code == client.get_registration_code()["registrationCode"] and len(code) == 64
    client.delete_registration_code()
    refused("ResourceNotFoundException", client.delete_registration_code)
    refused("CertificateValidationException", client.register_certificate, certificatePem=device)
    refused("CertificateValidationException", client.register_ca_certificate, caCertificate="x",
            certificateMode="SNI_ONLY")
    made = client.register_ca_certificate(
        caCertificate=ca,
        certificateMode="SNI_ONLY",
        setAsActive=True,
        allowAutoRegistration=True,
        registrationConfig={"templateBody": TEMPLATE, "roleArn": ROLE},
        tags=[{"Key": "site", "Value": "hall"}],
    )
    identifier = made["certificateId"]
    assert client.list_tags_for_resource(resourceArn=made["certificateArn"])["tags"]
    described = client.describe_ca_certificate(certificateId=identifier)
    assert described["certificateDescription"]["status"] == "ACTIVE"
    assert described["registrationConfig"] == {"templateBody": TEMPLATE, "roleArn": ROLE}
    assert client.list_ca_certificates()["certificates"][0]["certificateId"] == identifier
    registered = client.register_certificate(certificatePem=device, caCertificatePem=ca)
    listed = client.list_certificates_by_ca(caCertificateId=identifier)["certificates"]
    assert [it["certificateId"] for it in listed] == [registered["certificateId"]]
    refused("ResourceAlreadyExistsException", client.register_certificate, certificatePem=device)
    refused("CertificateStateException", client.delete_ca_certificate, certificateId=identifier)
    client.update_ca_certificate(
        certificateId=identifier, newStatus="INACTIVE", newAutoRegistrationStatus="DISABLE",
        removeAutoRegistration=True,
    )
    client.delete_ca_certificate(certificateId=identifier)
    refused("ResourceNotFoundException", client.describe_ca_certificate, certificateId=identifier)

    identifier = registered["certificateId"]
    refused("ResourceNotFoundException", client.transfer_certificate, certificateId="a" * 64,
            targetAwsAccount="123456789012")
    for answer in (client.cancel_certificate_transfer, client.reject_certificate_transfer,
                   client.accept_certificate_transfer):
        client.transfer_certificate(
            certificateId=identifier, targetAwsAccount="123456789012", transferMessage="yours"
        )
        outgoing = client.list_outgoing_certificates()["outgoingCertificates"]
        assert [it["transferredTo"] for it in outgoing] == ["123456789012"]
        answer(certificateId=identifier)
        refused("TransferAlreadyCompletedException", answer, certificateId=identifier)
    described = client.describe_certificate(certificateId=identifier)["certificateDescription"]
    assert described["transferData"]["transferMessage"] == "yours"
    client.delete_certificate(certificateId=identifier)


def provisioning():
    made = client.create_provisioning_template(
        templateName="Lamps",
        templateBody=TEMPLATE,
        provisioningRoleArn=ROLE,
        enabled=True,
        preProvisioningHook={"targetArn": "arn:aws:lambda:us-east-1:123456789012:function:gate"},
        tags=[{"Key": "site", "Value": "hall"}],
    )
    name = {"templateName": "Lamps"}
    assert client.list_tags_for_resource(resourceArn=made["templateArn"])["tags"]
    described = client.describe_provisioning_template(**name)
    assert (described["type"], described["templateBody"]) == ("FLEET_PROVISIONING", TEMPLATE)
    assert client.list_provisioning_templates()["templates"][0]["templateName"] == "Lamps"
    version = client.create_provisioning_template_version(**name, templateBody=TEMPLATE)
    version = {"versionId": version["versionId"]}
    assert len(client.list_provisioning_template_versions(**name)["versions"]) == 2
    assert client.describe_provisioning_template_version(**name, **version)["templateBody"]
    client.update_provisioning_template(
        **name, defaultVersionId=version["versionId"], removePreProvisioningHook=True
    )
    refused("DeleteConflictException", client.delete_provisioning_template_version, **name, **version)
    client.delete_provisioning_template_version(**name, versionId=1)
    claim = client.create_provisioning_claim(**name)
    assert claim["keyPair"]["PrivateKey"] and claim["expiration"]
    client.delete_provisioning_template(**name)
    refused("ResourceNotFoundException", client.create_provisioning_claim, **name)
    refused("InvalidRequestException", client.create_provisioning_template, **name,
            templateBody="{}", provisioningRoleArn=ROLE)

    thing = {"Resources": {"lamp": {"Type": "AWS::IoT::Thing", "Properties": {
        "ThingName": {"Ref": "Name"}, "AttributePayload": {"line": "3"}}}},
        "Parameters": {"Name": {"Type": "String"}}}
    body = json.dumps(thing)
    made = client.register_thing(templateBody=body, parameters={"Name": "L9"})
    assert made["resourceArns"] == {"lamp": f"{ACCOUNT}thing/L9"}
    refused("InvalidRequestException", client.register_thing, templateBody=body)
    thing["Resources"]["lamp"]["Properties"]["ThingTypeName"] = "None"
    refused("ResourceRegistrationFailureException", client.register_thing,
            templateBody=json.dumps(thing), parameters={"Name": "L9"})
    client.delete_thing(thingName="L9")


def bulk():
    template = json.dumps({
        "Parameters": {"Name": {"Type": "String"}},
        "Resources": {"lamp": {"Type": "AWS::IoT::Thing", "Properties":
            {"ThingName": {"Ref": "Name"}, "AttributePayload": {"line": "3"}}}},
    })
    source = {"inputFileBucket": "imports", "inputFileKey": "bulk/lamps.ndjson", "roleArn": ROLE}
    start = client.start_thing_registration_task
    invalid, missing = "InvalidRequestException", "ResourceNotFoundException"
    refused(invalid, start, templateBody=template, **source)
    gnomon("PUT", "/objects/imports/bulk/lamps.ndjson", b'{"Name": "B1"}\n{}\n{"Name": "B2"}\n')
    refused(invalid, start, templateBody="{}", **source)
    refused(invalid, start, templateBody=template, **{**source, "inputFileKey": "../keys"})
    task = start(templateBody=template, **source)
    name = {"taskId": task["taskId"]}
    for _ in range(200):
        described = client.describe_thing_registration_task(**name)
        if described["status"] != "InProgress":
            break
        time.sleep(0.05)
    assert described["status"] == "Completed", described
    assert (described["successCount"], described["failureCount"]) == (2, 1), described
    assert described["percentageProgress"] == 100
    assert client.list_thing_registration_tasks(status="Completed")["taskIds"] == [name["taskId"]]
    for kind, expected in (("RESULTS", [1, 3]), ("ERRORS", [2])):
        report = client.list_thing_registration_task_reports(**name, reportType=kind)
        assert report["reportType"] == kind
        # As on AWS: whoever has the link can follow it.
        with urllib.request.urlopen(report["resourceLinks"][0]) as answer:
            lines = [json.loads(line)["lineNumber"] for line in answer]
        assert lines == expected, (kind, lines)
    refused(invalid, client.stop_thing_registration_task, **name)
    refused(missing, client.stop_thing_registration_task, taskId="none")
    refused(missing, client.describe_thing_registration_task, taskId="none")
    for thing in ("B1", "B2"):
        client.delete_thing(thingName=thing)


parts = (
    things,
    groups,
    fleet,
    events,
    tags,
    policies,
    rules,
    cas,
    provisioning,
    bulk,
    authorizers,
    role_aliases,
    domain_configurations,
    logging,
    end,
)
for part in parts:
    part()
# The event that checks them has been heard.
assert len(called) >= 133, sorted(called)
