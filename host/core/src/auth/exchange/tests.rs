//! Steps, bounds and refusals of enhanced authentication.

use super::*;
use crate::auth::{AuthorizerResponse, Authorizers, EnhancedAuthorizer};
use crate::ids::ClientId;
use crate::policy::{Action, Resource};
use crate::registry::tests::registry_on;
use crate::storage::MemoryStore;
use async_trait::async_trait;

const CONNECT: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:Connect",
     "Resource":"arn:aws:iot:us-east-1:123456789012:client/Lamp"}]}"#;

/// Does what the data says; `count` challenges for ever and counts in its state.
struct Obedient;

fn accepted(principal: &str, policies: &[&str]) -> ExchangeAnswer {
    let response = AuthorizerResponse {
        is_authenticated: true,
        principal_id: principal.to_owned(),
        policy_documents: policies.iter().map(|&policy| policy.to_owned()).collect(),
        disconnect_after_s: 60,
        refresh_after_s: 0,
        attributes: Vec::new(),
    };
    ExchangeAnswer::Accepted { response, data: Bytes::from_static(b"welcome") }
}

#[async_trait]
impl EnhancedAuthorizer for Obedient {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeAnswer, String> {
        let challenge = |data: Vec<u8>, state: Vec<u8>| ExchangeAnswer::Challenge {
            data: data.into(),
            state: state.into(),
        };
        Ok(match &request.data[..] {
            b"count" => {
                let state = [&request.state[..], b"x"].concat();
                challenge(state.clone(), state)
            }
            b"again?" => challenge(vec![request.is_reauthentication.into()], Vec::new()),
            b"much state" => challenge(Vec::new(), vec![0; STATE_BYTES_MAX + 1]),
            b"much data" => challenge(vec![0; 2_000], Vec::new()),
            b"accept" => accepted("device7", &[CONNECT]),
            b"other" => accepted("device8", &[CONNECT]),
            b"refresh" => {
                let ExchangeAnswer::Accepted { mut response, data } =
                    accepted("device7", &[CONNECT])
                else {
                    unreachable!("so it is made");
                };
                response.refresh_after_s = 30;
                ExchangeAnswer::Accepted { response, data }
            }
            b"principal" => accepted("not a word", &[CONNECT]),
            b"malformed" => accepted("device7", &["{"]),
            b"nothing" => accepted("device7", &[]),
            b"hang" => std::future::pending().await,
            _ => return Err("no order".to_owned()),
        })
    }
}

fn authenticator() -> Authenticator {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let obedient: Arc<dyn EnhancedAuthorizer> = Arc::new(Obedient);
    let by_method = [("OBEY".into(), obedient)].into();
    Authenticator::new(registry, clock, Authorizers { by_method, ..Authorizers::default() })
}

fn exchange(method: &str) -> Exchange {
    let credentials = Credentials {
        connection_id: 1,
        peer: "192.0.2.1:4000".parse().unwrap(),
        listener: "mqtts".into(),
        anonymous_policy: None,
        server_name: None,
        certificate: None,
        http: None,
        client_id: Some(ClientId::parse("Lamp").unwrap()),
        username: None,
        password: None,
        has_will: false,
        is_persistent: false,
    };
    Exchange::new(credentials, method.into(), 2_000)
}

async fn step(exchange: &mut Exchange, data: &'static str) -> Result<Progress, Refusal> {
    authenticator().exchange(exchange, Bytes::from_static(data.as_bytes())).await
}

fn challenge(progress: Result<Progress, Refusal>) -> Bytes {
    match progress {
        Ok(Progress::Challenged(data)) => data,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn grants_what_the_authorizer_says_after_challenges_with_its_state() {
    let mut exchange = exchange("OBEY");
    assert_eq!(challenge(step(&mut exchange, "count").await), "x");
    assert_eq!(challenge(step(&mut exchange, "count").await), "xx");
    let Ok(Progress::Accepted(identity, data)) = step(&mut exchange, "accept").await else {
        panic!("refused");
    };
    assert_eq!(data, "welcome");
    assert_eq!(identity.principal.as_ref().map(Principal::as_str), Some("device7"));
    assert_eq!(identity.disconnect_after.map(|after| after.as_secs()), Some(60));
    assert!(identity.permissions.allows(Action::Connect, Resource::Client("Lamp")));
    assert!(!identity.permissions.allows(Action::Publish, Resource::Topic("a")));
}

#[tokio::test]
async fn an_answer_that_ends_is_the_end_unless_the_client_authenticates_again() {
    let accepted = step(&mut exchange("OBEY"), "refresh").await;
    let Ok(Progress::Accepted(identity, _)) = accepted else { panic!("refused") };
    assert_eq!(identity.disconnect_after.map(|after| after.as_secs()), Some(30));
}

#[tokio::test]
async fn starts_again_without_state_and_only_as_the_same_principal() {
    let mut exchange = exchange("OBEY");
    assert_eq!(challenge(step(&mut exchange, "again?").await), Bytes::from_static(&[0]));
    step(&mut exchange, "accept").await.unwrap();
    exchange.begin_again();
    assert_eq!(challenge(step(&mut exchange, "again?").await), Bytes::from_static(&[1]));
    assert_eq!(challenge(step(&mut exchange, "count").await), "x");
    exchange.begin_again();
    assert_eq!(challenge(step(&mut exchange, "count").await), "x");
    step(&mut exchange, "accept").await.unwrap();
    let refused = step(&mut exchange, "other").await;
    assert!(matches!(refused, Err(Refusal::NotAuthorized(_))), "{refused:?}");
}

#[tokio::test]
async fn ends_after_the_last_challenge() {
    let mut exchange = exchange("OBEY");
    for _ in 0..CHALLENGES_MAX {
        step(&mut exchange, "count").await.unwrap();
    }
    let refused = step(&mut exchange, "count").await;
    assert!(matches!(refused, Err(Refusal::NotAuthenticated(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn refuses_what_it_refuses_of_custom_authorizers() {
    for (data, text) in [
        ("disobey", "no order"),
        ("much state", "bytes of state"),
        ("much data", "bytes of data"),
        ("principal", "principalId"),
        ("malformed", "policy document 0"),
        ("hang", "did not answer"),
    ] {
        let refused = step(&mut exchange("OBEY"), data).await;
        let Err(Refusal::NotAuthenticated(reason)) = refused else { panic!("{data}: {refused:?}") };
        assert!(reason.contains(text), "{data}: {reason}");
    }
    let refused = step(&mut exchange("OBEY"), "nothing").await;
    assert!(matches!(refused, Err(Refusal::NotAuthorized(_))), "{refused:?}");
    let refused = step(&mut exchange("SCRAM-SHA-256"), "accept").await;
    assert_eq!(refused.unwrap_err(), Refusal::BadMethod("SCRAM-SHA-256".to_owned()));
}
