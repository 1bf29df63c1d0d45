//! Policies: whatever the document, it is refused, or its verdicts are those that it explains.
//!
//! Input: lines. The first is a document, or what stands between the brackets of `Statement`; each other
//! one a resource that is asked for.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz policy`.

#![no_main]

use gnomon_core::ids::{Account, ClientId};
use gnomon_core::policy::{Action, Context, Decision, Permissions, Policy, Resource};
use libfuzzer_sys::fuzz_target;

const DENY_ALL: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let (first, account) = (lines.next().unwrap_or_default(), Account::default());
    let statements = format!(r#"{{"Version":"2012-10-17","Statement":[{first}]}}"#);
    let parse = |document: &str| Policy::parse("P", document, &account);
    let Ok(policy) = parse(first).or_else(|_| parse(&statements)) else { return };
    let deny = parse(DENY_ALL).unwrap();
    let context = Context { client_id: ClientId::parse("c").ok(), ..Context::default() };
    let permissions = Permissions::new([&policy], &context);
    let denied = Permissions::new([&policy, &deny], &context);
    for line in lines {
        for (action, resource) in [
            (Action::Connect, Resource::Client(line)),
            (Action::Publish, Resource::Topic(line)),
            (Action::Subscribe, Resource::TopicFilter(line)),
        ] {
            let explained = matches!(permissions.explain(action, resource), Decision::Allowed(_));
            assert_eq!(permissions.allows(action, resource), explained, "{line:?}");
            assert!(!denied.allows(action, resource), "{line:?}");
        }
    }
});
