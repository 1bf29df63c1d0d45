//! `gnomon key …`: access keys for the API.

use super::{Folder, NOT_RUNNING, Result, administrator, ask, client, pages, running};
use crate::app;
use crate::data::{DataFolder, KeyFile};
use crate::terminal::{show, show_text};
use clap::{Args, Subcommand, ValueEnum};
use gnomon_api::Client;
use gnomon_api::keys::Role;
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Make an access key; its secret is shown once.
    Create {
        #[command(flatten)]
        folder: Folder,
        /// What the key may do.
        #[arg(long, value_enum)]
        role: RoleArgument,
    },
    /// List the access keys, without secrets.
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Make a key with the role of another, and disable that one. The key that this command itself
    /// signs with is replaced in its file too.
    Rotate(Named),
    /// Let a key sign nothing any more.
    Disable(Named),
    /// Let a disabled key sign again.
    Enable(Named),
    /// Remove a key.
    Delete(Named),
}

/// A key of a running host.
#[derive(Args)]
pub struct Named {
    #[command(flatten)]
    folder: Folder,
    /// `AKIA…`
    id: String,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum RoleArgument {
    /// Everything, access keys too.
    Administrator,
    /// Everything but access keys.
    Operator,
    /// Reading.
    ReadOnly,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Administrator => Self::Administrator,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::ReadOnly => Self::ReadOnly,
        }
    }
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Create { folder, role } => create(folder, (*role).into()).await,
        Command::List { folder } => {
            let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
            show(
                &json!({ "accessKeys": pages(&client, "gnomon", &["keys"], "accessKeys").await? }),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Rotate(named) => rotate(named).await,
        Command::Disable(named) => set_status(named, "Inactive").await,
        Command::Enable(named) => set_status(named, "Active").await,
        Command::Delete(Named { folder, id }) => {
            let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
            ask(&client, "gnomon", Method::DELETE, &["keys", id], "").await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create(folder: &Folder, role: Role) -> Result<ExitCode> {
    let key = match running(&folder.data)? {
        Some(run) => make(&administrator(folder, &run)?, &json!(role)).await?,
        None => app::create_key(&folder.data, role).await?,
    };
    show_key(&key, &json!(role), folder.json);
    Ok(ExitCode::SUCCESS)
}

async fn make(client: &Client, role: &Value) -> Result<KeyFile> {
    let body = json!({ "role": role }).to_string();
    let answer = client.call("gnomon", Method::POST, &["keys"], &[], &[], body).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn set_status(Named { folder, id }: &Named, status: &str) -> Result<ExitCode> {
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    let body = json!({ "status": status }).to_string();
    ask(&client, "gnomon", Method::PATCH, &["keys", id], &body).await?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(named: &Named) -> Result<ExitCode> {
    let Named { folder, id } = named;
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    let keys = pages(&client, "gnomon", &["keys"], "accessKeys").await?;
    let old = keys.iter().find(|key| key["accessKeyId"] == id.as_str());
    let role = &old.ok_or_else(|| format!("no access key has the id {id}"))?["role"];
    let key = make(&client, role).await?;
    let path = DataFolder::open(&folder.data)?.administrator();
    let own: Option<KeyFile> = DataFolder::read(&path)?;
    if own.is_some_and(|own| own.access_key_id == *id) {
        // From here on with the new one: a key cannot disable itself.
        DataFolder::write(&path, &key)?;
    }
    set_status(named, "Inactive").await?;
    show_key(&key, role, folder.json);
    Ok(ExitCode::SUCCESS)
}

fn show_key(key: &KeyFile, role: &Value, as_json: bool) {
    if as_json {
        show(&json!({
            "accessKeyId": key.access_key_id,
            "secretAccessKey": key.secret_access_key,
            "role": role,
        }));
    } else {
        show_text(&format!("export AWS_ACCESS_KEY_ID={}", key.access_key_id));
        show_text(&format!("export AWS_SECRET_ACCESS_KEY={}", key.secret_access_key));
    }
}
