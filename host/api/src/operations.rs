//! The operations of AWS's REST models, as data: name, method, path, and what they need.
//!
//! Source: the service models `iot` and `iot-data` of botocore 1.44.5, the operations that a
//! device platform cannot do without; and Gnomon's own administration. An operation that no
//! module has a handler for answers 501 with its name. Not here: the handlers (in the module of
//! their resource), matching ([`crate::router`]).

use http::Method;

/// What a caller's role must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Shows something.
    Read,
    /// Changes something or sends a message.
    Write,
    /// Changes who may do what over this API, or by what the host is known.
    Administer,
}

/// An operation as clients see it.
#[derive(Debug)]
pub(crate) struct Operation {
    /// As in AWS's model.
    pub name: &'static str,
    /// What it needs.
    pub access: Access,
    /// Of the request.
    pub method: Method,
    /// `{x}` is a label of one segment, `{x+}` one of all the rest.
    pub path: &'static str,
}

macro_rules! operations {
    ($($access:ident $name:ident $method:ident $path:literal;)*) => {
        &[$(Operation {
            name: stringify!($name),
            access: Access::$access,
            method: Method::$method,
            path: $path,
        }),*]
    };
}

/// The control plane `iot`.
pub(crate) const IOT: &[Operation] = operations! {
    // Things.
    Write CreateThing POST "/things/{thingName}";
    Read DescribeThing GET "/things/{thingName}";
    Write UpdateThing PATCH "/things/{thingName}";
    Write DeleteThing DELETE "/things/{thingName}";
    Read ListThings GET "/things";
    // Thing types.
    Write CreateThingType POST "/thing-types/{thingTypeName}";
    Read DescribeThingType GET "/thing-types/{thingTypeName}";
    Read ListThingTypes GET "/thing-types";
    Write UpdateThingType PATCH "/thing-types/{thingTypeName}";
    Write DeprecateThingType POST "/thing-types/{thingTypeName}/deprecate";
    Write DeleteThingType DELETE "/thing-types/{thingTypeName}";
    // Thing groups (static, dynamic).
    Write CreateThingGroup POST "/thing-groups/{thingGroupName}";
    Read DescribeThingGroup GET "/thing-groups/{thingGroupName}";
    Write UpdateThingGroup PATCH "/thing-groups/{thingGroupName}";
    Write DeleteThingGroup DELETE "/thing-groups/{thingGroupName}";
    Read ListThingGroups GET "/thing-groups";
    Write AddThingToThingGroup PUT "/thing-groups/addThingToThingGroup";
    Write RemoveThingFromThingGroup PUT "/thing-groups/removeThingFromThingGroup";
    Read ListThingsInThingGroup GET "/thing-groups/{thingGroupName}/things";
    Read ListThingGroupsForThing GET "/things/{thingName}/thing-groups";
    Write UpdateThingGroupsForThing PUT "/thing-groups/updateThingGroupsForThing";
    Write CreateDynamicThingGroup POST "/dynamic-thing-groups/{thingGroupName}";
    Write UpdateDynamicThingGroup PATCH "/dynamic-thing-groups/{thingGroupName}";
    Write DeleteDynamicThingGroup DELETE "/dynamic-thing-groups/{thingGroupName}";
    // Billing groups.
    Write CreateBillingGroup POST "/billing-groups/{billingGroupName}";
    Read DescribeBillingGroup GET "/billing-groups/{billingGroupName}";
    Write UpdateBillingGroup PATCH "/billing-groups/{billingGroupName}";
    Write DeleteBillingGroup DELETE "/billing-groups/{billingGroupName}";
    Read ListBillingGroups GET "/billing-groups";
    Write AddThingToBillingGroup PUT "/billing-groups/addThingToBillingGroup";
    Write RemoveThingFromBillingGroup PUT "/billing-groups/removeThingFromBillingGroup";
    Read ListThingsInBillingGroup GET "/billing-groups/{billingGroupName}/things";
    // Certificates.
    Write CreateKeysAndCertificate POST "/keys-and-certificate";
    Write CreateCertificateFromCsr POST "/certificates";
    Write RegisterCertificate POST "/certificate/register";
    Write RegisterCertificateWithoutCA POST "/certificate/register-no-ca";
    Read DescribeCertificate GET "/certificates/{certificateId}";
    Write UpdateCertificate PUT "/certificates/{certificateId}";
    Write DeleteCertificate DELETE "/certificates/{certificateId}";
    Read ListCertificates GET "/certificates";
    Read ListCertificatesByCA GET "/certificates-by-ca/{caCertificateId}";
    Write TransferCertificate PATCH "/transfer-certificate/{certificateId}";
    Write AcceptCertificateTransfer PATCH "/accept-certificate-transfer/{certificateId}";
    Write RejectCertificateTransfer PATCH "/reject-certificate-transfer/{certificateId}";
    Write CancelCertificateTransfer PATCH "/cancel-certificate-transfer/{certificateId}";
    Read ListOutgoingCertificates GET "/certificates-out-going";
    // CA certificates.
    Read GetRegistrationCode GET "/registrationcode";
    Write DeleteRegistrationCode DELETE "/registrationcode";
    Write RegisterCACertificate POST "/cacertificate";
    Read DescribeCACertificate GET "/cacertificate/{caCertificateId}";
    Write UpdateCACertificate PUT "/cacertificate/{caCertificateId}";
    Write DeleteCACertificate DELETE "/cacertificate/{caCertificateId}";
    Read ListCACertificates GET "/cacertificates";
    // Policies.
    Write CreatePolicy POST "/policies/{policyName}";
    Read GetPolicy GET "/policies/{policyName}";
    Write DeletePolicy DELETE "/policies/{policyName}";
    Read ListPolicies GET "/policies";
    Write CreatePolicyVersion POST "/policies/{policyName}/version";
    Read GetPolicyVersion GET "/policies/{policyName}/version/{policyVersionId}";
    Read ListPolicyVersions GET "/policies/{policyName}/version";
    Write SetDefaultPolicyVersion PATCH "/policies/{policyName}/version/{policyVersionId}";
    Write DeletePolicyVersion DELETE "/policies/{policyName}/version/{policyVersionId}";
    Write AttachPolicy PUT "/target-policies/{policyName}";
    Write DetachPolicy POST "/target-policies/{policyName}";
    Read ListAttachedPolicies POST "/attached-policies/{target}";
    Read ListTargetsForPolicy POST "/policy-targets/{policyName}";
    Read GetEffectivePolicies POST "/effective-policies";
    Read TestAuthorization POST "/test-authorization";
    Write AttachPrincipalPolicy PUT "/principal-policies/{policyName}";
    Write DetachPrincipalPolicy DELETE "/principal-policies/{policyName}";
    Read ListPrincipalPolicies GET "/principal-policies";
    Read ListPolicyPrincipals GET "/policy-principals";
    // Principals.
    Write AttachThingPrincipal PUT "/things/{thingName}/principals";
    Write DetachThingPrincipal DELETE "/things/{thingName}/principals";
    Read ListThingPrincipals GET "/things/{thingName}/principals";
    Read ListThingPrincipalsV2 GET "/things/{thingName}/principals-v2";
    Read ListPrincipalThings GET "/principals/things";
    Read ListPrincipalThingsV2 GET "/principals/things-v2";
    // Rules and destinations.
    Write CreateTopicRule POST "/rules/{ruleName}";
    Read GetTopicRule GET "/rules/{ruleName}";
    Read ListTopicRules GET "/rules";
    Write ReplaceTopicRule PATCH "/rules/{ruleName}";
    Write DeleteTopicRule DELETE "/rules/{ruleName}";
    Write EnableTopicRule POST "/rules/{ruleName}/enable";
    Write DisableTopicRule POST "/rules/{ruleName}/disable";
    Write CreateTopicRuleDestination POST "/destinations";
    Read GetTopicRuleDestination GET "/destinations/{arn+}";
    Read ListTopicRuleDestinations GET "/destinations";
    Write UpdateTopicRuleDestination PATCH "/destinations";
    Write DeleteTopicRuleDestination DELETE "/destinations/{arn+}";
    Write ConfirmTopicRuleDestination GET "/confirmdestination/{confirmationToken+}";
    // Jobs.
    Write CreateJob PUT "/jobs/{jobId}";
    Read DescribeJob GET "/jobs/{jobId}";
    Write UpdateJob PATCH "/jobs/{jobId}";
    Write CancelJob PUT "/jobs/{jobId}/cancel";
    Write DeleteJob DELETE "/jobs/{jobId}";
    Read ListJobs GET "/jobs";
    Read GetJobDocument GET "/jobs/{jobId}/job-document";
    Write AssociateTargetsWithJob POST "/jobs/{jobId}/targets";
    Read DescribeJobExecution GET "/things/{thingName}/jobs/{jobId}";
    Read ListJobExecutionsForJob GET "/jobs/{jobId}/things";
    Read ListJobExecutionsForThing GET "/things/{thingName}/jobs";
    Write CancelJobExecution PUT "/things/{thingName}/jobs/{jobId}/cancel";
    Write DeleteJobExecution DELETE "/things/{thingName}/jobs/{jobId}/executionNumber/{executionNumber}";
    Write CreateJobTemplate PUT "/job-templates/{jobTemplateId}";
    Read DescribeJobTemplate GET "/job-templates/{jobTemplateId}";
    Read ListJobTemplates GET "/job-templates";
    Write DeleteJobTemplate DELETE "/job-templates/{jobTemplateId}";
    // Fleet indexing.
    Write UpdateIndexingConfiguration POST "/indexing/config";
    Read GetIndexingConfiguration GET "/indexing/config";
    Read DescribeIndex GET "/indices/{indexName}";
    Read ListIndices GET "/indices";
    Read SearchIndex POST "/indices/search";
    Read GetStatistics POST "/indices/statistics";
    Read GetCardinality POST "/indices/cardinality";
    Read GetPercentiles POST "/indices/percentiles";
    Read GetBucketsAggregation POST "/indices/buckets";
    Read GetThingConnectivityData POST "/things/{thingName}/connectivity-data";
    // Endpoints.
    Read DescribeEndpoint GET "/endpoint";
    // Custom authorizers.
    Write CreateAuthorizer POST "/authorizer/{authorizerName}";
    Read DescribeAuthorizer GET "/authorizer/{authorizerName}";
    Write UpdateAuthorizer PUT "/authorizer/{authorizerName}";
    Write DeleteAuthorizer DELETE "/authorizer/{authorizerName}";
    Read ListAuthorizers GET "/authorizers";
    Write SetDefaultAuthorizer POST "/default-authorizer";
    Read DescribeDefaultAuthorizer GET "/default-authorizer";
    Write ClearDefaultAuthorizer DELETE "/default-authorizer";
    Write TestInvokeAuthorizer POST "/authorizer/{authorizerName}/test";
    // Provisioning.
    Write CreateProvisioningTemplate POST "/provisioning-templates";
    Read DescribeProvisioningTemplate GET "/provisioning-templates/{templateName}";
    Write UpdateProvisioningTemplate PATCH "/provisioning-templates/{templateName}";
    Write DeleteProvisioningTemplate DELETE "/provisioning-templates/{templateName}";
    Read ListProvisioningTemplates GET "/provisioning-templates";
    Write CreateProvisioningTemplateVersion POST "/provisioning-templates/{templateName}/versions";
    Read DescribeProvisioningTemplateVersion GET "/provisioning-templates/{templateName}/versions/{versionId}";
    Write DeleteProvisioningTemplateVersion DELETE "/provisioning-templates/{templateName}/versions/{versionId}";
    Read ListProvisioningTemplateVersions GET "/provisioning-templates/{templateName}/versions";
    Write CreateProvisioningClaim POST "/provisioning-templates/{templateName}/provisioning-claim";
    Write RegisterThing POST "/things";
    Write StartThingRegistrationTask POST "/thing-registration-tasks";
    Write StopThingRegistrationTask PUT "/thing-registration-tasks/{taskId}/cancel";
    Read DescribeThingRegistrationTask GET "/thing-registration-tasks/{taskId}";
    Read ListThingRegistrationTasks GET "/thing-registration-tasks";
    Read ListThingRegistrationTaskReports GET "/thing-registration-tasks/{taskId}/reports";
    // Domain configurations.
    Write CreateDomainConfiguration POST "/domainConfigurations/{domainConfigurationName}";
    Read DescribeDomainConfiguration GET "/domainConfigurations/{domainConfigurationName}";
    Write UpdateDomainConfiguration PUT "/domainConfigurations/{domainConfigurationName}";
    Write DeleteDomainConfiguration DELETE "/domainConfigurations/{domainConfigurationName}";
    Read ListDomainConfigurations GET "/domainConfigurations";
    // Role aliases.
    Write CreateRoleAlias POST "/role-aliases/{roleAlias}";
    Read DescribeRoleAlias GET "/role-aliases/{roleAlias}";
    Write UpdateRoleAlias PUT "/role-aliases/{roleAlias}";
    Write DeleteRoleAlias DELETE "/role-aliases/{roleAlias}";
    Read ListRoleAliases GET "/role-aliases";
    // Logging.
    Write SetV2LoggingOptions POST "/v2LoggingOptions";
    Read GetV2LoggingOptions GET "/v2LoggingOptions";
    Write SetV2LoggingLevel POST "/v2LoggingLevel";
    Read ListV2LoggingLevels GET "/v2LoggingLevel";
    Write DeleteV2LoggingLevel DELETE "/v2LoggingLevel";
    Write SetLoggingOptions POST "/loggingOptions";
    Read GetLoggingOptions GET "/loggingOptions";
    // Registry events.
    Write UpdateEventConfigurations PATCH "/event-configurations";
    Read DescribeEventConfigurations GET "/event-configurations";
    // Tags.
    Write TagResource POST "/tags";
    Write UntagResource POST "/untag";
    Read ListTagsForResource GET "/tags";
};

/// The data plane `iot-data`.
pub(crate) const IOT_DATA: &[Operation] = operations! {
    Write DeleteConnection DELETE "/connections/{clientId}";
    Write DeleteThingShadow DELETE "/things/{thingName}/shadow";
    Read GetRetainedMessage GET "/retainedMessage/{topic+}";
    Read GetThingShadow GET "/things/{thingName}/shadow";
    Read ListNamedShadowsForThing GET "/api/things/shadow/ListNamedShadowsForThing/{thingName}";
    Read ListRetainedMessages GET "/retainedMessage";
    Write Publish POST "/topics/{topic+}";
    Write UpdateThingShadow POST "/things/{thingName}/shadow";
};

/// Gnomon's own administration; the names of the key operations are those of AWS IAM.
pub(crate) const GNOMON: &[Operation] = operations! {
    Administer CreateAccessKey POST "/keys";
    Administer ListAccessKeys GET "/keys";
    Administer UpdateAccessKey PATCH "/keys/{accessKeyId}";
    Administer DeleteAccessKey DELETE "/keys/{accessKeyId}";
    Read GetHealth GET "/health";
    Read GetMetrics GET "/metrics";
    // What AWS has no operation for.
    Read ExplainAuthorization POST "/authorization";
    Read TestRule POST "/rule-test";
    Read GetRuleFigures GET "/rules/{ruleName}/figures";
    Read ListDeadLetters GET "/rules/{ruleName}/dead-letters";
    Write ReplayDeadLetters POST "/rules/{ruleName}/dead-letters";
    Write DeleteDeadLetters DELETE "/rules/{ruleName}/dead-letters";
    Read ListExpiringCertificates GET "/certificates";
    Write RenewCertificate POST "/certificates/{certificateId}/renew";
    Administer RenewHostCertificate POST "/host-certificates/{kind}/renew";
    Read ListQuarantine GET "/quarantine";
    Read DescribeQuarantine GET "/quarantine/{id}";
    Write ImposeQuarantine POST "/quarantine/{id}";
    Write LiftQuarantine DELETE "/quarantine/{id}";
    Read GetPayloadSchema GET "/thing-types/{thingTypeName}/payload-schema";
    Write SetPayloadSchema PUT "/thing-types/{thingTypeName}/payload-schema";
    Write DeletePayloadSchema DELETE "/thing-types/{thingTypeName}/payload-schema";
    Write PutObject PUT "/objects/{bucket}/{key+}";
    Read GetObject GET "/objects/{bucket}/{key+}";
    Write DeleteObject DELETE "/objects/{bucket}/{key+}";
    Read TryThingRegistration POST "/thing-registration-dry-runs";
    Read QueryTables POST "/query";
    Read ListTables GET "/tables";
    Write SetTableRetention PUT "/tables/{tableName}/retention";
    Write DeleteTable DELETE "/tables/{tableName}";
};
