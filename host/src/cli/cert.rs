//! `gnomon cert …`: certificates near their end, and their renewal.

use super::table::{cell, show_aligned};
use super::{Folder, NOT_RUNNING, Result, ask, client};
use crate::terminal::{show, show_text};
use clap::{Args, Subcommand};
use gnomon_api::Client;
use http::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// List certificates in use that end soon: of devices, of CAs, and the host's own.
    List {
        #[command(flatten)]
        folder: Folder,
        /// Within so many days.
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        expiring: u32,
    },
    /// Make a certificate in place of another. The old one of a device stays ACTIVE for a day, and
    /// until the device has connected with the new one.
    Renew(Renew),
}

#[derive(Args)]
pub struct Renew {
    #[command(flatten)]
    folder: Folder,
    /// Id of a device's certificate: 64 hexadecimal digits.
    #[arg(required_unless_present_any = ["server", "ca"], conflicts_with_all = ["server", "ca"])]
    id: Option<String>,
    /// Certificate signing request of the device (PEM). Without it the host makes a key, which is
    /// shown once.
    #[arg(long, requires = "id")]
    csr: Option<PathBuf>,
    /// The one that the host presents, at once and without ending connections.
    #[arg(long, conflicts_with = "ca")]
    server: bool,
    /// The one of the host's CA, with the same key and name: who has the old file keeps working.
    #[arg(long)]
    ca: bool,
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let folder = match command {
        Command::List { folder, .. } => folder,
        Command::Renew(renew) => &renew.folder,
    };
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    match command {
        Command::List { expiring, .. } => {
            let certificates = expiring_within(&client, *expiring).await?;
            if folder.json {
                show(&json!({ "certificates": certificates }));
            } else {
                list(&certificates);
            }
        }
        Command::Renew(renew) => self::renew(&client, renew).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages.
async fn expiring_within(client: &Client, days: u32) -> Result<Vec<Value>> {
    let days = days.to_string();
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut query = vec![("days", days.as_str())];
        query.extend(token.as_deref().map(|token| ("nextToken", token)));
        let answer = client.call("gnomon", Method::GET, &["certificates"], &query, &[], "").await?;
        let mut page: Value = serde_json::from_slice(&answer)?;
        if let Some(Value::Array(items)) = page.get_mut("certificates").map(Value::take) {
            all.extend(items);
        }
        match page.get("nextToken").and_then(Value::as_str) {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}

async fn renew(client: &Client, renew: &Renew) -> Result<()> {
    let Renew { folder, id, csr, ca, .. } = renew;
    let Some(id) = id else {
        let kind = if *ca { "ca" } else { "server" };
        let path = ["host-certificates", kind, "renew"];
        let renewed = ask(client, "gnomon", Method::POST, &path, "").await?;
        if folder.json {
            show(&renewed);
        } else {
            list(&[renewed]);
        }
        return Ok(());
    };
    let request = csr.as_ref().map(|path| {
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    });
    let body = match request.transpose()? {
        Some(request) => json!({ "certificateSigningRequest": request }),
        None => json!({}),
    };
    let path = ["certificates", id.as_str(), "renew"];
    let renewed = ask(client, "gnomon", Method::POST, &path, &body.to_string()).await?;
    if folder.json {
        show(&renewed);
        return Ok(());
    }
    // PEM blocks of certificate and key, as other tools read them; the id is in front of them.
    show_text(&format!("certificate {}", text(&renewed["certificateId"])));
    for member in ["certificatePem", "privateKey"] {
        if let Some(pem) = renewed[member].as_str() {
            show_text(pem.trim_end());
        }
    }
    Ok(())
}

fn list(certificates: &[Value]) {
    let mut lines =
        vec![["certificateId", "kind", "daysLeft", "things"].map(str::to_owned).to_vec()];
    lines.extend(certificates.iter().map(|it| {
        // Ids are for other commands: never cut off.
        let id = text(&it["certificateId"]);
        vec![id, cell(&it["kind"]), cell(&it["daysLeft"]), cell(&it["things"])]
    }));
    show_aligned(&lines);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
