//! `gnomon policy explain`: which statement decides.

use super::{Folder, NOT_RUNNING, Result, client};
use crate::terminal::{show, show_text};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Say what a certificate may do, and which statement of which policy decides. Exit code 0 when it
    /// may, 1 when it may not.
    Explain(Explain),
}

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    folder: Folder,
    /// ARN of the certificate.
    #[arg(long)]
    principal: String,
    /// The client id under which it connects; its thing counts when the certificate is attached to it.
    #[arg(long)]
    client_id: Option<String>,
    /// What is to be done.
    #[arg(value_enum)]
    action: Action,
    /// A client id, topic or filter.
    resource: String,
    /// As if these policies were attached too.
    #[arg(long)]
    add: Vec<String>,
    /// As if these were not.
    #[arg(long)]
    skip: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    Connect,
    Publish,
    Subscribe,
    Receive,
}

impl Action {
    /// The name in the API, and the kind of its resource.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Connect => ("CONNECT", "client"),
            Self::Publish => ("PUBLISH", "topic"),
            Self::Subscribe => ("SUBSCRIBE", "topicfilter"),
            Self::Receive => ("RECEIVE", "topic"),
        }
    }
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let Command::Explain(explain) = command;
    let Explain { folder, principal, client_id, action, resource, add, skip } = explain;
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    let (action, kind) = action.parts();
    // Region and account are those of the certificate.
    let account = principal.split(":cert/").next().unwrap_or_default();
    let body = json!({
        "principal": principal,
        "authInfos": [{"actionType": action, "resources": [format!("{account}:{kind}/{resource}")]}],
        "policyNamesToAdd": add,
        "policyNamesToSkip": skip,
    });
    let query: Vec<_> = client_id.iter().map(|id| ("clientId", id.as_str())).collect();
    let path = ["authorization"];
    let answer = client.call("gnomon", Method::POST, &path, &query, &[], body.to_string()).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let decision = &answer["decisions"][0];
    if folder.json {
        show(decision);
    } else {
        show_text(decision["reason"].as_str().unwrap_or_default());
    }
    let is_allowed = decision["allowed"] == json!(true);
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
