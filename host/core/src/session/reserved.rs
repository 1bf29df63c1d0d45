//! Reserved topics: which names that begin with `$` a client may publish to.
//!
//! Source: AWS IoT developer guide, "Reserved topics". A service that listens on topics of its
//! own adds them here; everything else with `$` is the host's to publish.

use crate::topic::TopicName;

/// True unless the name is reserved and no request topic of a service.
pub fn may_publish(topic: &TopicName) -> bool {
    if !topic.is_reserved() {
        return true;
    }
    let mut levels = topic.levels();
    match (levels.next(), levels.next()) {
        (Some("$aws"), Some("things")) => {}
        // $aws/certificates/{create,create-from-csr}/{json,cbor}
        (Some("$aws"), Some("certificates")) => {
            let request = [levels.next(), levels.next(), levels.next()];
            return matches!(
                request,
                [Some("create" | "create-from-csr"), Some("json" | "cbor"), None]
            );
        }
        // $gnomon/certificates/renew/{json,cbor}: AWS has no such request.
        (Some("$gnomon"), Some("certificates")) => {
            let request = [levels.next(), levels.next(), levels.next()];
            return matches!(request, [Some("renew"), Some("json" | "cbor"), None]);
        }
        // $aws/provisioning-templates/{template}/provision/{json,cbor}
        (Some("$aws"), Some("provisioning-templates")) => {
            let request = [levels.next(), levels.next(), levels.next(), levels.next()];
            return matches!(request, [Some(_), Some("provision"), Some("json" | "cbor"), None]);
        }
        // Basic Ingest: $aws/rules/{rule}/{topic}
        (Some("$aws"), Some("rules")) => {
            return levels.next().is_some_and(|rule| !rule.is_empty()) && levels.next().is_some();
        }
        _ => return false,
    }
    // $aws/things/{thing}/shadow[/name/{shadow}]/{get,update,delete}
    let rest = [levels.nth(1), levels.next(), levels.next(), levels.next()];
    let request = match rest {
        [Some("shadow"), request, None, None] => request,
        [Some("shadow"), Some("name"), Some(_), request] => request,
        _ => None,
    };
    matches!(request, Some("get" | "update" | "delete")) && levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_publish_requests_and_nothing_else_on_reserved_topics() {
        let allowed = [
            "a/b",
            "$aws/things/T/shadow/update",
            "$aws/things/T/shadow/get",
            "$aws/things/T/shadow/name/config/delete",
            "$aws/rules/R/a",
            "$aws/rules/R/a/b/c",
            "$aws/certificates/create/json",
            "$aws/certificates/create-from-csr/cbor",
            "$gnomon/certificates/renew/json",
            "$aws/provisioning-templates/T/provision/json",
        ];
        let refused = [
            "$SYS/uptime",
            "$aws/things/T/shadow/update/accepted",
            "$aws/things/T/shadow/name/config/update/delta",
            "$aws/things/T/shadow/name/config",
            "$aws/things/T/shadow",
            "$aws/rules",
            "$aws/rules/R",
            "$aws/rules//a",
            "$aws/certificates/create",
            "$aws/certificates/create/xml",
            "$aws/certificates/renew/json",
            "$gnomon/certificates/create/json",
            "$gnomon/certificates/renew",
            "$gnomon/certificates/renew/json/accepted",
            "$gnomon/events/x",
            "$aws/certificates/create/json/accepted",
            "$aws/provisioning-templates/T/provision/json/rejected",
            "$aws/provisioning-templates/T",
            "$aws/events/presence/connected/x",
            "$share/g/a",
            "$foo",
        ];
        for topic in allowed {
            assert!(may_publish(&TopicName::parse(topic).unwrap()), "{topic}");
        }
        for topic in refused {
            assert!(!may_publish(&TopicName::parse(topic).unwrap()), "{topic}");
        }
    }
}
