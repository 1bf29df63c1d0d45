"""A second opinion: the same calls of boto3 on Gnomon and on moto, an emulator of AWS that others wrote.

Compared is what both say: whether a call succeeds or with which code it fails, and the members of its
answer with their types and values. Names that each side makes up (ids, times, keys) count as their kind.
Who is right where the two differ says AWS's model, which botocore has, or AWS's documentation. DIFFERENCES
has those where that is Gnomon, with the reason; one that is not there fails, and so does one that is there
and has gone.

Arguments: the endpoint, an access key and its secret, the certificate of a CA and one that it signed.
"""

import datetime
import fnmatch
import json
import pathlib
import re
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

ENDPOINT, KEY, SECRET, CA_FILE, DEVICE_FILE, _ = sys.argv[1:]
ACCOUNT = "arn:aws:iot:us-east-1:123456789012:"
ROLE = "arn:aws:iam::123456789012:role/gate"
# Where the two differ, and why that is right. The keys, in which `*` stands for anything, are what a
# call is called below and a member of its answer.
DIFFERENCES = {
    # moto leaves out members that the model has. All of them are optional.
    "*type*.thingTypeId": "the model has it in the answers to CreateThingType",
    "*.searchableAttributes": "the list of a type that names none is empty",
    "*.rootToParentThingGroups": "the list of a group that is below none is empty",
    "described child.thingGroupProperties.attributePayload": "no attributes are empty ones",
    "*billing group.version": "the model has it",
    "*certificate*.certificateMode": "the model has it, also in lists",
    "*.customerVersion": "the model has it",
    "*.generationId": "the model has it, for policies too; of a version it is not the version",
    "*.autoRegistrationStatus": "the model has it",
    "*.caCertificateId": "the model has it",
    "*.lastModifiedDate": "the model has it",
    "*policy*.creationDate": "the model has it",
    "*version*.isDefaultVersion": "false is said",
    "*.deprecationDate": "the model has it",
    "*omain*.applicationProtocol": "the model has it",
    "*omain*.authenticationType": "the model has it",
    "*omain*.serviceType": "the model has it",
    "desired.payload.clientToken": "AWS IoT, Device Shadow: answers have the request's token",
    "named shadows.timestamp": "the model has it",
    # moto does not do it.
    "*thing*.version": "it grows by one with each update",
    "*.thingPrincipalType": "the model has it",
    "principals that share.thingPrincipalObjects": "the list is filtered by the type",
    "exclusive besides another": "EXCLUSIVE_THING: the thing will be the principal's only one",
    "besides an exclusive one": "as above",
    "pages of groups.pages": "the model has maxResults",
    "pages of certificates.pages": "the model has pageSize",
    "pages of policies.pages": "the model has pageSize",
    "child of none": "the model has ResourceNotFoundException",
    "request that is none": "the model has InvalidRequestException",
    "shadow without desired.payload.*": "AWS IoT, Device Shadow: null removes",
    # Names that each makes up.
    "*eys.keyPair.PrivateKey": "PKCS #8, which says what kind of key it is, and not PKCS #1",
    "code.registrationCode": "the model has 64 hexadecimal digits",
    "*CA.certificateArn": "AWS IoT, service authorization reference: cacert/",
    "*CA.certificateDescription.certificateArn": "as above",
    "*omain*.domainConfigurationArn": "here a name is enough; AWS puts an id behind it",
    "endpoint *.endpointAddress": "the operator says it",
    # What is an error.
    "billing group again": "the model: with the same configuration the call will succeed",
    "default version is deleted": "the model has DeleteConflictException",
    "detach again": "the model has no ResourceNotFoundException for DetachPolicy",
    "no rule": "the model has no ResourceNotFoundException; AWS answers UnauthorizedException",
    "rule is deleted again": "as above",
    "*rule.rule.errorAction": "there is none",
    "thing is deleted again": "the model: no error for a thing that does not exist",
    "type is deleted": "the model: you must deprecate it first",
    "type Lamp is deprecated": "it was not deleted, see above",
    "deprecated type Lamp": "as above",
    "deprecated type is deleted": "as above",
    "*hadow is deleted.payload.version": "the version that was deleted",
    "type that differs": "the model has ResourceAlreadyExistsException",
    "thing that differs": "as above",
    "* with a wrong name": "the model has the pattern of names",
    "thing with four attributes": "AWS IoT, quotas: three without a type",
    "update to a wrong version": "the model has VersionConflictException",
    "policy that is no JSON": "the model has MalformedPolicyException",
    "policy without statement": "as above",
    "certificate that is none": "the model has CertificateValidationException",
    "unknown status": "the model has an enumeration",
    "rule without FROM": "the model has SqlParseException",
}


def document(action):
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Side:
    """One of the two, and what it said to each call."""

    def __init__(self, crashes=(), **where):
        """`crashes`: what the other side of a call may raise here."""
        config = Config(retries={"max_attempts": 0})
        self.clients = {
            name: boto3.client(name, region_name="us-east-1", config=config, **where)
            for name in ("iot", "iot-data")
        }
        self.said = {}
        self.crashes = crashes

    def call(self, what, operation, client="iot", **parameters):
        """The answer; without members when there is none."""
        try:
            answer = getattr(self.clients[client], operation)(**parameters)
        except ClientError as error:
            self.keep(what, error.response["Error"]["Code"])
            return {}
        except self.crashes:
            self.keep(what, "crashes")
            return {}
        answer.pop("ResponseMetadata")
        if "payload" in answer:
            answer["payload"] = json.loads(answer["payload"].read() or b"null")
        self.keep(what, answer)
        return answer

    def pages(self, what, operation, size=1, **parameters):
        """All pages of a list."""
        paginator = self.clients["iot"].get_paginator(operation)
        pages = paginator.paginate(**parameters, PaginationConfig={"PageSize": size})
        # Whether there is another page they say by going on, or not.
        tokens = ("ResponseMetadata", "nextToken", "nextMarker")
        listed = [{k: v for k, v in page.items() if k not in tokens} for page in pages]
        self.keep(what, {"pages": listed})

    def keep(self, what, answer):
        assert what not in self.said, f"{what} is there twice"
        self.said[what] = dict(members(answer))


KINDS = [
    (r"-----BEGIN ([A-Z ]+)-----.*", r"<\1>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
]


def members(answer, path=""):
    """Path and value of every member."""
    if isinstance(answer, dict):
        yield path, "object"
        for name, value in answer.items():
            yield from members(value, f"{path}.{name}")
    elif isinstance(answer, list):
        yield path, f"list of {len(answer)}"
        for at, value in enumerate(answer):
            yield from members(value, f"{path}[{at}]")
    elif isinstance(answer, datetime.datetime):
        yield path, "<time>"
    elif isinstance(answer, str):
        for pattern, kind in KINDS:
            answer = re.sub(pattern, kind, answer, flags=re.DOTALL)
        yield path, answer
    elif path.endswith("timestamp") or path.endswith("Date"):
        yield path, type(answer).__name__
    else:
        yield path, answer


def parents(member):
    """The members that it is in."""
    return [member[: found.start()] for found in re.finditer(r"[.[]", member)]


def thing_types(side):
    lamp = {"thingTypeDescription": "light", "searchableAttributes": ["watts"]}
    side.call("type", "create_thing_type", thingTypeName="Lamp", thingTypeProperties=lamp)
    side.call("plain type", "create_thing_type", thingTypeName="Pump")
    side.call("described type", "describe_thing_type", thingTypeName="Lamp")
    side.call("described plain type", "describe_thing_type", thingTypeName="Pump")
    side.call("described type that is none", "describe_thing_type", thingTypeName="None")
    side.call("types", "list_thing_types")
    side.call("types of a name", "list_thing_types", thingTypeName="Lamp")
    side.pages("pages of types", "list_thing_types")


def things(side):
    payload = {"attributes": {"watts": "7", "site": "hall"}}
    side.call("thing", "create_thing", thingName="L1", thingTypeName="Lamp",
              attributePayload=payload)
    side.call("thing of no type", "create_thing", thingName="X", thingTypeName="None")
    for name in ("L2", "L3"):
        side.call(f"thing {name}", "create_thing", thingName=name)
    side.call("described thing", "describe_thing", thingName="L1")
    side.call("described plain thing", "describe_thing", thingName="L2")
    side.call("described thing that is none", "describe_thing", thingName="None")
    merged = {"attributes": {"a": "b", "site": ""}, "merge": True}
    side.call("merge", "update_thing", thingName="L1", attributePayload=merged)
    side.call("merged thing", "describe_thing", thingName="L1")
    replaced = {"attributes": {"a": "c"}}
    side.call("replacement", "update_thing", thingName="L1", attributePayload=replaced)
    side.call("replaced thing", "describe_thing", thingName="L1")
    side.call("update of no thing", "update_thing", thingName="None")
    side.call("other type", "update_thing", thingName="L2", thingTypeName="Pump")
    side.call("no type", "update_thing", thingName="L2", removeThingType=True)
    side.call("thing without its type", "describe_thing", thingName="L2")
    side.call("things", "list_things")
    side.call("things of a type", "list_things", thingTypeName="Lamp")
    side.call("things with an attribute", "list_things", attributeName="a", attributeValue="c")
    side.pages("pages of things", "list_things", size=2)


def groups(side):
    attributes = {"attributePayload": {"attributes": {"floor": "1"}}}
    properties = {"thingGroupDescription": "all", **attributes}
    create = {"thingGroupName": "hall", "thingGroupProperties": properties}
    side.call("group", "create_thing_group", **create)
    side.call("group again", "create_thing_group", **create)
    side.call("group that differs", "create_thing_group", thingGroupName="hall")
    side.call("child", "create_thing_group", thingGroupName="line", parentGroupName="hall")
    side.call("child of none", "create_thing_group", thingGroupName="x", parentGroupName="None")
    side.call("described group", "describe_thing_group", thingGroupName="hall")
    side.call("described child", "describe_thing_group", thingGroupName="line")
    side.call("described group that is none", "describe_thing_group", thingGroupName="None")
    more = {"thingGroupDescription": "more"}
    update = {"thingGroupName": "hall", "thingGroupProperties": more}
    side.call("updated group", "update_thing_group", **update)
    side.call("group with a wrong version", "update_thing_group", **update, expectedVersion=9)
    side.call("group after the update", "describe_thing_group", thingGroupName="hall")
    member = {"thingGroupName": "line", "thingName": "L1"}
    side.call("member", "add_thing_to_thing_group", **member)
    side.call("member again", "add_thing_to_thing_group", **member)
    side.call("member of none", "add_thing_to_thing_group", thingGroupName="No", thingName="L1")
    side.call("no member", "add_thing_to_thing_group", thingGroupName="line", thingName="No")
    side.call("members", "list_things_in_thing_group", thingGroupName="line")
    side.call("members of none", "list_things_in_thing_group", thingGroupName="None")
    side.call("groups of a thing", "list_thing_groups_for_thing", thingName="L1")
    side.call("thing into groups", "update_thing_groups_for_thing", thingName="L2",
              thingGroupsToAdd=["hall"], thingGroupsToRemove=["line"])
    side.call("groups", "list_thing_groups")
    side.call("root groups", "list_thing_groups", recursive=False)
    side.call("groups below", "list_thing_groups", parentGroup="hall")
    side.call("groups of a prefix", "list_thing_groups", namePrefixFilter="li")
    side.pages("pages of groups", "list_thing_groups")
    side.call("group with a child is deleted", "delete_thing_group", thingGroupName="hall")
    side.call("member leaves", "remove_thing_from_thing_group", **member)
    side.call("member leaves again", "remove_thing_from_thing_group", **member)
    side.call("child is deleted", "delete_thing_group", thingGroupName="line")
    side.call("group is deleted", "delete_thing_group", thingGroupName="hall")
    side.call("group is deleted again", "delete_thing_group", thingGroupName="hall")


def billing_groups(side):
    properties = {"billingGroupDescription": "ours"}
    create = {"billingGroupName": "dept", "billingGroupProperties": properties}
    side.call("billing group", "create_billing_group", **create)
    side.call("billing group again", "create_billing_group", **create)
    side.call("billing group that differs", "create_billing_group", billingGroupName="dept")
    side.call("described billing group", "describe_billing_group", billingGroupName="dept")
    side.call("no billing group", "describe_billing_group", billingGroupName="None")
    update = {"billingGroupName": "dept", "billingGroupProperties": {}}
    side.call("billing group's wrong version", "update_billing_group", **update, expectedVersion=9)
    side.call("updated billing group", "update_billing_group", **update, expectedVersion=1)
    member = {"billingGroupName": "dept", "thingName": "L2"}
    side.call("billed thing", "add_thing_to_billing_group", **member)
    side.call("billed things", "list_things_in_billing_group", billingGroupName="dept")
    side.call("thing with its billing group", "describe_thing", thingName="L2")
    side.call("thing is billed no more", "remove_thing_from_billing_group", **member)
    side.call("billing groups", "list_billing_groups")
    side.call("billing group is deleted", "delete_billing_group", billingGroupName="dept")


def certificates(side):
    """Gives the ARN of one that is ACTIVE."""
    made = side.call("keys", "create_keys_and_certificate", setAsActive=True)
    arn, of = made["certificateArn"], {"certificateId": made["certificateId"]}
    side.call("described certificate", "describe_certificate", **of)
    side.call("no certificate", "describe_certificate", certificateId="a" * 64)
    side.call("certificates", "list_certificates")
    side.call("active certificate is deleted", "delete_certificate", **of)
    side.call("certificate is revoked", "update_certificate", **of, newStatus="REVOKED")
    side.call("revoked certificate", "describe_certificate", **of)
    side.call("certificate is active again", "update_certificate", **of, newStatus="ACTIVE")
    side.call("no certificate is revoked", "update_certificate", certificateId="a" * 64,
              newStatus="REVOKED")
    other = side.call("other keys", "create_keys_and_certificate", setAsActive=True)
    inactive = {"certificateId": other["certificateId"]}
    side.pages("pages of certificates", "list_certificates")
    side.call("certificate is switched off", "update_certificate", **inactive,
              newStatus="INACTIVE")
    side.call("inactive certificate", "describe_certificate", **inactive)
    side.call("inactive certificate is deleted", "delete_certificate", **inactive)
    side.call("deleted certificate", "describe_certificate", **inactive)
    return arn


def cas(side):
    ca, device = (pathlib.Path(file).read_text() for file in (CA_FILE, DEVICE_FILE))
    side.call("code", "get_registration_code")
    made = side.call("CA", "register_ca_certificate", caCertificate=ca, setAsActive=True,
                     allowAutoRegistration=True, certificateMode="SNI_ONLY")
    of = {"certificateId": made["certificateId"]}
    side.call("described CA", "describe_ca_certificate", **of)
    side.call("no CA", "describe_ca_certificate", certificateId="a" * 64)
    registered = side.call("device of a CA", "register_certificate", certificatePem=device,
                           caCertificatePem=ca, status="ACTIVE")
    device_of = {"certificateId": registered["certificateId"]}
    side.call("device of a CA again", "register_certificate", certificatePem=device)
    side.call("described device of a CA", "describe_certificate", **device_of)
    side.call("certificates of a CA", "list_certificates_by_ca",
              caCertificateId=made["certificateId"])
    side.call("active CA is deleted", "delete_ca_certificate", **of)
    side.call("CA is switched off", "update_ca_certificate", **of, newStatus="INACTIVE",
              newAutoRegistrationStatus="DISABLE")
    side.call("inactive CA", "describe_ca_certificate", **of)
    side.call("CA is deleted", "delete_ca_certificate", **of)
    side.call("deleted CA", "describe_ca_certificate", **of)
    side.call("device is switched off", "update_certificate", **device_of, newStatus="INACTIVE")
    side.call("device is deleted", "delete_certificate", **device_of)
    made = side.call("device without CA", "register_certificate_without_ca",
                     certificatePem=device, status="INACTIVE")
    side.call("device without CA is deleted", "delete_certificate",
              certificateId=made["certificateId"])


def policies(side, arn):
    create = {"policyName": "P", "policyDocument": document("iot:Connect")}
    side.call("policy", "create_policy", **create)
    side.call("policy again", "create_policy", **create)
    side.call("got policy", "get_policy", policyName="P")
    side.call("no policy", "get_policy", policyName="None")
    for version in range(2, 7):
        side.call(f"version {version}", "create_policy_version", policyName="P",
                  policyDocument=document("iot:Publish"))
    side.call("versions", "list_policy_versions", policyName="P")
    second = {"policyName": "P", "policyVersionId": "2"}
    side.call("second version", "get_policy_version", **second)
    side.call("no version", "get_policy_version", policyName="P", policyVersionId="9")
    side.call("default version", "set_default_policy_version", **second)
    side.call("default version is deleted", "delete_policy_version", **second)
    for version in "1345":
        side.call(f"version {version} is deleted", "delete_policy_version", policyName="P",
                  policyVersionId=version)
    side.call("policy of the second version", "get_policy", policyName="P")
    side.call("other policy", "create_policy", policyName="Q", policyDocument=document("iot:*"))
    side.call("policies", "list_policies")
    side.pages("pages of policies", "list_policies")
    side.call("attach", "attach_policy", policyName="P", target=arn)
    side.call("attach again", "attach_policy", policyName="P", target=arn)
    side.call("attach none", "attach_policy", policyName="None", target=arn)
    side.call("attached", "list_attached_policies", target=arn)
    side.call("targets", "list_targets_for_policy", policyName="P")
    side.call("targets of none", "list_targets_for_policy", policyName="None")
    side.call("policies of the principal", "list_principal_policies", principal=arn)
    side.call("principals of the policy", "list_policy_principals", policyName="P")
    side.call("attached policy is deleted", "delete_policy", policyName="P")
    side.call("detach", "detach_policy", policyName="P", target=arn)
    side.call("detach again", "detach_policy", policyName="P", target=arn)
    for name in ("P", "Q"):
        side.call(f"policy {name} is deleted", "delete_policy", policyName=name)
    side.call("policy P is deleted again", "delete_policy", policyName="P")


def principals(side, arn):
    attach = {"thingName": "L1", "principal": arn}
    side.call("principal", "attach_thing_principal", **attach)
    side.call("principal again", "attach_thing_principal", **attach)
    side.call("principal of no thing", "attach_thing_principal", thingName="No", principal=arn)
    side.call("principals", "list_thing_principals", thingName="L1")
    side.call("principals with types", "list_thing_principals_v2", thingName="L1")
    side.call("principals of no thing", "list_thing_principals", thingName="None")
    side.call("things of the principal", "list_principal_things", principal=arn)
    side.call("things with types", "list_principal_things_v2", principal=arn)
    side.call("exclusive besides another", "attach_thing_principal", thingName="L2",
              principal=arn, thingPrincipalType="EXCLUSIVE_THING")
    second = {"thingName": "L2", "principal": arn}
    side.call("exclusive one leaves", "detach_thing_principal", **second)
    side.call("thing with a principal is deleted", "delete_thing", thingName="L1")
    side.call("certificate of a thing is switched off", "update_certificate",
              certificateId=arn[-64:], newStatus="INACTIVE")
    side.call("certificate of a thing is deleted", "delete_certificate", certificateId=arn[-64:])
    side.call("principal leaves", "detach_thing_principal", **attach)
    exclusive = {**attach, "thingPrincipalType": "EXCLUSIVE_THING"}
    side.call("exclusive principal", "attach_thing_principal", **exclusive)
    side.call("exclusive principals", "list_thing_principals_v2", thingName="L1",
              thingPrincipalType="EXCLUSIVE_THING")
    side.call("principals that share", "list_thing_principals_v2", thingName="L1",
              thingPrincipalType="NON_EXCLUSIVE_THING")
    side.call("exclusive things", "list_principal_things_v2", principal=arn)
    side.call("besides an exclusive one", "attach_thing_principal", **second)
    side.call("that one leaves", "detach_thing_principal", **second)
    side.call("exclusive principal leaves", "detach_thing_principal", **attach)
    side.call("certificate is deleted", "delete_certificate", certificateId=arn[-64:])


def rules(side):
    republish = {"republish": {"roleArn": ROLE, "topic": "b"}}
    payload = {"sql": "SELECT * FROM 'a'", "actions": [republish],
               "awsIotSqlVersion": "2016-03-23", "description": "all"}
    of = {"ruleName": "R"}
    side.call("rule", "create_topic_rule", **of, topicRulePayload=payload)
    side.call("rule again", "create_topic_rule", **of, topicRulePayload=payload)
    side.call("got rule", "get_topic_rule", **of)
    side.call("no rule", "get_topic_rule", ruleName="None")
    side.call("rules", "list_topic_rules")
    side.call("rule is disabled", "disable_topic_rule", **of)
    side.call("disabled rule", "get_topic_rule", **of)
    side.call("rule is enabled", "enable_topic_rule", **of)
    side.call("rule is replaced", "replace_topic_rule", **of,
              topicRulePayload={**payload, "sql": "SELECT b FROM 'a'"})
    side.call("replaced rule", "get_topic_rule", **of)
    side.call("rule is deleted", "delete_topic_rule", **of)
    side.call("rule is deleted again", "delete_topic_rule", **of)


def role_aliases(side):
    create = {"roleAlias": "gate", "roleArn": ROLE}
    side.call("alias", "create_role_alias", **create)
    side.call("alias again", "create_role_alias", **create)
    side.call("described alias", "describe_role_alias", roleAlias="gate")
    side.call("updated alias", "update_role_alias", roleAlias="gate",
              credentialDurationSeconds=900)
    side.call("alias after the update", "describe_role_alias", roleAlias="gate")
    side.call("aliases", "list_role_aliases")
    side.call("no alias", "describe_role_alias", roleAlias="None")
    side.call("alias is deleted", "delete_role_alias", roleAlias="gate")
    side.call("alias is deleted again", "delete_role_alias", roleAlias="gate")


def domain_configurations(side):
    of = {"domainConfigurationName": "gate"}
    authorizer = {"defaultAuthorizerName": "users", "allowAuthorizerOverride": True}
    side.call("domain", "create_domain_configuration", **of, domainName="gate.example.com",
              serviceType="DATA", authorizerConfig=authorizer)
    side.call("described domain", "describe_domain_configuration", **of)
    side.call("domains", "list_domain_configurations")
    side.call("domain is disabled", "update_domain_configuration", **of,
              domainConfigurationStatus="DISABLED")
    side.call("disabled domain", "describe_domain_configuration", **of)
    side.call("domain is deleted", "delete_domain_configuration", **of)
    side.call("no domain", "describe_domain_configuration", **of)


def endpoints(side):
    for kind in ("iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs", "none"):
        side.call(f"endpoint {kind}", "describe_endpoint", endpointType=kind)


def shadows(side):
    def shadow(what, operation, payload=None, **parameters):
        if payload is not None:
            parameters["payload"] = json.dumps(payload)
        side.call(what, operation, client="iot-data", thingName="L1", **parameters)

    shadow("no shadow", "get_thing_shadow")
    shadow("no shadow is deleted", "delete_thing_shadow")
    desired = {"state": {"desired": {"on": True, "level": 3}}, "clientToken": "t"}
    shadow("desired", "update_thing_shadow", desired)
    shadow("shadow with a delta", "get_thing_shadow")
    shadow("reported", "update_thing_shadow", {"state": {"reported": {"on": True, "level": 2}}})
    shadow("shadow with a smaller delta", "get_thing_shadow")
    shadow("shadow of an old version", "update_thing_shadow",
           {"state": {"reported": {"on": True}}, "version": 1})
    shadow("removal", "update_thing_shadow", {"state": {"desired": None}})
    shadow("shadow without desired", "get_thing_shadow")
    shadow("no state", "update_thing_shadow", {"states": {}})
    shadow("named", "update_thing_shadow", {"state": {"reported": {"a": [1]}}}, shadowName="mode")
    shadow("named shadow", "get_thing_shadow", shadowName="mode")
    shadow("named shadows", "list_named_shadows_for_thing")
    shadow("named shadow is deleted", "delete_thing_shadow", shadowName="mode")
    shadow("shadow is deleted", "delete_thing_shadow")
    shadow("deleted shadow", "get_thing_shadow")
    side.call("publish", "publish", client="iot-data", topic="a/b", payload=b"x")


def end(side):
    for name in ("L1", "L2", "L3"):
        side.call(f"thing {name} is deleted", "delete_thing", thingName=name)
    side.call("thing is deleted again", "delete_thing", thingName="L1")
    side.call("type is deleted", "delete_thing_type", thingTypeName="Lamp")
    for name in ("Lamp", "Pump"):
        of = {"thingTypeName": name}
        side.call(f"type {name} is deprecated", "deprecate_thing_type", **of)
        side.call(f"deprecated type {name}", "describe_thing_type", **of)
    side.call("thing of a deprecated type", "create_thing", thingName="X", thingTypeName="Pump")
    side.call("type is not deprecated", "deprecate_thing_type", thingTypeName="Pump",
              undoDeprecate=True)
    side.call("type that was deprecated", "describe_thing_type", thingTypeName="Pump")
    side.call("deprecated type is deleted", "delete_thing_type", thingTypeName="Lamp")
    side.call("no type is deleted", "delete_thing_type", thingTypeName="None")


def mistakes(side):
    """What moto takes, and what would be in its lists from then on."""
    lamp = {"thingTypeName": "Lamp", "thingTypeProperties": {"thingTypeDescription": "light"}}
    for what in ("another type", "another type again"):
        side.call(what, "create_thing_type", **lamp)
    side.call("type that differs", "create_thing_type", thingTypeName="Lamp")
    side.call("type with a wrong name", "create_thing_type", thingTypeName="a b")
    payload = {"attributes": {"site": "hall"}}
    for what in ("another thing", "another thing again"):
        side.call(what, "create_thing", thingName="L4", attributePayload=payload)
    side.call("thing that differs", "create_thing", thingName="L4")
    side.call("thing with a wrong name", "create_thing", thingName="a b")
    four = {"attributes": {name: "x" for name in "abcd"}}
    side.call("thing with four attributes", "create_thing", thingName="L5", attributePayload=four)
    side.call("update to a wrong version", "update_thing", thingName="L4", expectedVersion=9)
    side.call("group with a wrong name", "create_thing_group", thingGroupName="a b")
    side.call("policy that is no JSON", "create_policy", policyName="R", policyDocument="{")
    side.call("policy without statement", "create_policy", policyName="R", policyDocument="{}")
    side.call("certificate that is none", "register_certificate_without_ca", certificatePem="x")
    side.call("request that is none", "create_certificate_from_csr",
              certificateSigningRequest="x")
    side.call("unknown status", "update_certificate", certificateId="a" * 64, newStatus="NONE")
    payload = {"sql": "SELECT", "actions": []}
    side.call("rule without FROM", "create_topic_rule", ruleName="B", topicRulePayload=payload)


def everything(side):
    thing_types(side)
    things(side)
    groups(side)
    billing_groups(side)
    arn = certificates(side)
    cas(side)
    policies(side, arn)
    principals(side, arn)
    rules(side)
    role_aliases(side)
    domain_configurations(side)
    endpoints(side)
    shadows(side)
    end(side)
    mistakes(side)
    return side.said


with mock_aws():
    moto = everything(Side(crashes=Exception, aws_access_key_id="any", aws_secret_access_key="any"))
gnomon = everything(
    Side(endpoint_url=ENDPOINT, aws_access_key_id=KEY, aws_secret_access_key=SECRET)
)

assert gnomon.keys() == moto.keys()
assert len(gnomon) >= 200, len(gnomon)
different = {}
for what, ours in gnomon.items():
    theirs = moto[what]
    for member in sorted(ours.keys() | theirs.keys()):
        ours_is, theirs_is = ours.get(member), theirs.get(member)
        below = any(f"{what}{above}" in different for above in parents(member))
        if (ours_is, type(ours_is)) != (theirs_is, type(theirs_is)) and not below:
            different[f"{what}{member}"] = f"Gnomon {ours_is!r}, moto {theirs_is!r}"
known = {where: fnmatch.filter(different, where) for where in DIFFERENCES}
listed = {where for found in known.values() for where in found}
new = [f"{where}: {how}" for where, how in different.items() if where not in listed]
gone = [where for where, found in known.items() if not found]
assert not new, "they differ:\n" + "\n".join(new)
assert not gone, f"no longer different: {gone}"
