//! `gnomon quarantine …`: clients that are connected and silent.

use super::table::{cell, show_aligned};
use super::{Folder, NOT_RUNNING, Result, ask, client, pages};
use crate::terminal::{show, show_text};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// List who is in quarantine, and why.
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Say why somebody is in quarantine.
    Show(Named),
    /// Put somebody into quarantine: connected clients fall silent at once.
    Add {
        #[command(flatten)]
        named: Named,
        /// Why, for those who look later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let somebody out, whose offences are forgotten.
    Lift(Named),
}

/// Somebody on a running host.
#[derive(Args)]
pub struct Named {
    #[command(flatten)]
    folder: Folder,
    /// `thing:NAME`, or `principal:ID` with the id of a certificate or of an authorizer's client.
    id: String,
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let folder = match command {
        Command::List { folder } => folder,
        Command::Show(named) | Command::Lift(named) | Command::Add { named, .. } => &named.folder,
    };
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    match command {
        Command::List { .. } => {
            let entries = pages(&client, "gnomon", &["quarantine"], "quarantine").await?;
            if folder.json {
                show(&json!({ "quarantine": entries }));
            } else {
                list(&entries);
            }
        }
        Command::Show(Named { id, .. }) => {
            let entry = ask(&client, "gnomon", Method::GET, &["quarantine", id], "").await?;
            describe(&entry, folder.json);
        }
        Command::Add { named, reason } => {
            let body = json!({ "reason": reason }).to_string();
            let path = ["quarantine", named.id.as_str()];
            let entry = ask(&client, "gnomon", Method::POST, &path, &body).await?;
            describe(&entry, folder.json);
        }
        Command::Lift(Named { id, .. }) => {
            ask(&client, "gnomon", Method::DELETE, &["quarantine", id], "").await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Members of an entry, in the order in which they are shown.
const MEMBERS: [&str; 7] = ["id", "since", "kind", "count", "clientId", "principal", "reason"];

fn list(entries: &[Value]) {
    let mut lines = vec![MEMBERS.map(str::to_owned).to_vec()];
    lines.extend(entries.iter().map(|entry| MEMBERS.map(|member| cell(&entry[member])).to_vec()));
    show_aligned(&lines);
}

fn describe(entry: &Value, as_json: bool) {
    if as_json {
        return show(entry);
    }
    for member in MEMBERS {
        show_text(&format!("{member:10} {}", cell(&entry[member])));
    }
}
