//! Provisioning hook that lets only devices on a list be provisioned, e.g. the serial numbers that have
//! been sold.
//!
//! ```toml
//! [plugins.allow-list.config]
//! parameter = "SerialNumber"
//! allowed = ["A-1001", "A-1002"]
//! ```
//!
//! In: a device's parameters. Out: whether the parameter's value is on the list. A list in a file is granted
//! as a secret, with a value on each line (`allowed = { secret = "serials" }`); it is read when the plugin is
//! loaded. Refusals say which parameter was wrong, in the host's log and to nobody else.

use gnomon_sdk::host::NamedSecret;
use gnomon_sdk::{HookRequest, HookResponse, Plugin, ProvisioningHook, export};
use serde::Deserialize;
use std::collections::BTreeSet;

export!(AllowList: ProvisioningHook);

/// `[plugins.<name>.config]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of the parameter that has to be on the list.
    parameter: String,
    /// Its values.
    allowed: Allowed,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "allowed is neither a list of texts nor { secret = \"NAME\" }")]
enum Allowed {
    Values(BTreeSet<String>),
    Named(NamedSecret),
}

struct AllowList {
    parameter: String,
    allowed: BTreeSet<String>,
}

impl Plugin for AllowList {
    type Config = Config;

    fn new(Config { parameter, allowed }: Config) -> Result<Self, String> {
        let allowed = match allowed {
            Allowed::Values(values) => values,
            // A value on each line; empty lines and those that begin with `#` do not count.
            Allowed::Named(secret) => {
                let text = String::from_utf8(secret.read()?)
                    .map_err(|_| "the secret of allowed is not UTF-8".to_owned())?;
                let lines = text.lines().map(str::trim);
                let values = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
                values.map(Into::into).collect()
            }
        };
        if allowed.is_empty() {
            return Err("allowed has no values: no device could be provisioned".into());
        }
        Ok(Self { parameter, allowed })
    }
}

impl ProvisioningHook for AllowList {
    fn decide(&mut self, request: &HookRequest) -> Result<HookResponse, String> {
        let found = request.parameters.iter().find(|(name, _)| *name == self.parameter);
        let Some((_, value)) = found else {
            return Err(format!("the device gave no parameter {}", self.parameter));
        };
        if !self.allowed.contains(value) {
            return Err(format!(
                "parameter {} is {value:?}, which is not on the list",
                self.parameter
            ));
        }
        Ok(HookResponse { allow_provisioning: true, parameter_overrides: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_sdk::mock::MockHost;
    use serde_json::json;

    fn list(allowed: &serde_json::Value) -> Result<AllowList, String> {
        let config = json!({"parameter": "Serial", "allowed": allowed});
        AllowList::new(serde_json::from_value(config).map_err(|error| error.to_string())?)
    }

    fn decide(list: &mut AllowList, parameters: &[(&str, &str)]) -> Result<bool, String> {
        let request = HookRequest {
            claim_certificate_id: None,
            certificate_id: "a".repeat(64),
            certificate_pem: String::new(),
            template_arn: String::new(),
            client_id: None,
            parameters: parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        list.decide(&request).map(|answer| answer.allow_provisioning)
    }

    #[test]
    fn who_is_on_the_list_is_provisioned_and_nobody_else() {
        let mut list = list(&json!(["7", "8"])).unwrap();
        assert_eq!(decide(&mut list, &[("Other", "9"), ("Serial", "7")]), Ok(true));
        let refused = "parameter Serial is \"9\", which is not on the list";
        assert_eq!(decide(&mut list, &[("Serial", "9")]), Err(refused.into()));
        let missing = "the device gave no parameter Serial";
        assert_eq!(decide(&mut list, &[("serial", "7")]), Err(missing.into()));
    }

    #[test]
    fn a_list_can_be_a_granted_file() {
        let host = MockHost::new();
        host.set_secret("serials", b"# sold\n\n 7 \r\n8");
        let mut list = list(&json!({"secret": "serials"})).unwrap();
        assert_eq!(decide(&mut list, &[("Serial", "7")]), Ok(true));
        assert!(decide(&mut list, &[("Serial", "# sold")]).is_err());
    }

    #[test]
    fn a_list_of_nobody_is_refused() {
        for (allowed, says) in [
            (json!([]), "no values"),
            (json!(7), "neither a list"),
            (json!({"secret": "none"}), "none"),
        ] {
            let error = list(&allowed).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
    }
}
