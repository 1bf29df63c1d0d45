//! `fleet`: a host with many things: how fast they are registered, what they take on disk and in
//! memory, how long a start takes, and how long reads and searches.
//!
//! In: a [`Plan`], the host, and a folder on the disk that matters. Out: three tables, and one of the
//! index. Things enter by the REST API and by `gnomon things import`; the host is a process.

use crate::cpu::process_cpu;
use crate::disk::{millis, percentile, temporary};
use crate::process::{Kind, Process, raise_file_limit};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_api::{Client, ClientError, Connection};
use gnomon_core::time::{Clock, SystemClock};
use gnomon_load::{Fleet, Options};
use http::Method;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

/// How many, and whether they are searched.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Things.
    pub things: u32,
    /// Index and search them.
    pub search: bool,
}

/// Things that are imported from a file, or half of all.
const IMPORTED_MAX: u32 = 100_000;

/// Connections that register things at the same time; the last has all that is left.
const CONNECTIONS: [u32; 3] = [16, 64, 256];

/// The part of the things that each but the last of [`CONNECTIONS`] registers.
const PART: u32 = 20;

/// The file of the registry.
const STORE: &str = "meta.redb";

/// Calls of one operation.
const CALLS: u32 = 5_000;

/// Pages of a list.
const PAGES: u32 = 200;

/// Searches of one kind.
const SEARCHES: u32 = 200;

/// Things of a page: the most that ListThings gives, and SearchIndex.
const LIST_ITEMS: &str = "250";
const SEARCH_ITEMS: u32 = 100;

/// Clients that are connected while the index is asked; their ids are names of things.
const CONNECTED: u32 = 2_000;

/// Lines that the things are on.
const LINES: u32 = 20;

/// How long an index may take to be made, and how often the host is asked.
const INDEX_TIMEOUT: Duration = Duration::from_secs(600);
const INDEX_POLL: Duration = Duration::from_millis(50);

/// For a host to give back what it does not need any more.
const SETTLE: Duration = Duration::from_secs(2);

const QUERIES: [&str; 3] = [
    "connectivity.connected:true AND attributes.line:3",
    "attributes.line:3 AND attributes.serial:ab*",
    "thingName:device-*",
];

/// Fills a host with things, starts it again and asks it.
pub fn measure(plan: Plan, gnomon: &Kind, folder: &Path) -> Result<Vec<Table>> {
    // Holds for the host as well.
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let local = LocalSet::new();
    let folder = temporary(folder)?;
    let bench = Bench { plan, gnomon, folder: folder.path() };
    runtime.block_on(local.run_until(bench.run()))
}

struct Bench<'a> {
    plan: Plan,
    gnomon: &'a Kind,
    folder: &'a Path,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Vec<Table>> {
        let mut hosts = Table::new(
            format!("Fleet: the host with {} things", self.plan.things),
            &[
                "host",
                "seconds until ready",
                "resident KiB",
                "bytes per thing",
                "store KiB",
                "store bytes per thing",
            ],
        );
        let process = self.gnomon.start_on(self.folder).await?;
        let empty = Size::of(&process)?;
        empty.row(&mut hosts, "empty", Some(&process), None);
        let registrations = self.register(&process).await?;
        sleep(SETTLE).await;
        let since = Some((empty, self.plan.things));
        Size::of(&process)?.row(&mut hosts, "all registered", None, since);
        process.stop()?;

        progress("fleet: started again");
        let process = self.gnomon.start_on(self.folder).await?;
        Size::of(&process)?.row(&mut hosts, "started again", Some(&process), since);
        // Dropping it kills it.
        drop(process);
        let process = self.gnomon.start_on(self.folder).await?;
        Size::of(&process)?.row(&mut hosts, "started after a crash", Some(&process), since);
        let reads = self.read(&process).await?;
        Size::of(&process)?.row(&mut hosts, "after the reads below", None, since);
        let mut tables = vec![registrations, hosts, reads];
        if self.plan.search {
            let table = self.search(process, &mut tables[1], since).await?;
            tables.push(table);
        }
        tables[1].note(
            "Ready: from exec until `gnomon status` says so, asked every 50 ms. Bytes per thing: what \
             the empty host has is not counted.",
        );
        Ok(tables)
    }

    async fn register(&self, process: &Process) -> Result<Table> {
        let mut table = Table::new(
            "Fleet: registration of things with a type and five attributes",
            &[
                "way",
                "things",
                "per second",
                "host CPU s per 1,000",
                "client CPU s per 1,000",
                "p50 ms",
                "p99 ms",
            ],
        );
        let client = Arc::new(process.api_client()?);
        let path = ["thing-types", "Sensor"];
        client.call("iot", Method::POST, &path, &[], &[], "{}").await?;
        let things = self.plan.things;
        let imported = IMPORTED_MAX.min(things / 2);
        let mut next = 0;
        for connections in CONNECTIONS {
            let is_last = CONNECTIONS.last() == Some(&connections);
            let end = if is_last { things - imported } else { next + things / PART };
            progress(&format!("fleet: {} things, {connections} connections", end - next));
            let meter = Meter::start(process)?;
            let mut each = create_all(&client, next..end, connections).await?;
            each.sort_unstable();
            let name = format!("CreateThing, {connections} connections");
            let times = [50, 99].map(|percent| percentile(&each, percent).map(millis));
            meter.row(&mut table, &name, end - next, times)?;
            next = end;
        }
        progress(&format!("fleet: {imported} things imported"));
        let meter = Meter::start(process)?;
        self.import(process, next..things)?;
        meter.row(&mut table, "gnomon things import", imported, [None; 2])?;
        table.note("Each is on the disk before it is answered. Client and host share the machine.");
        Ok(table)
    }

    /// Registers things in bulk, by the command.
    fn import(&self, process: &Process, numbers: Range<u32>) -> Result<()> {
        let [template, lines] = ["template.json", "things.jsonl"].map(|it| self.folder.join(it));
        std::fs::write(&template, bulk_template().to_string())?;
        let mut file = BufWriter::new(File::create(&lines)?);
        let count = numbers.len();
        for number in numbers {
            let mut line = attributes(number);
            line["name"] = json!(name(number));
            writeln!(file, "{line}")?;
        }
        file.into_inner()?;
        let mut command = self.gnomon.command()?;
        command.args(["things", "import", "--json"]).arg(&lines).arg("--template").arg(&template);
        let output = command.arg("--data").arg(process.data()).output()?;
        let done: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if done["successCount"] != json!(count) {
            let problem = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{done} of {count} things were imported: {problem}").into());
        }
        Ok(())
    }

    async fn read(&self, process: &Process) -> Result<Table> {
        let columns = ["operation", "calls", "p50 ms", "p99 ms", "host CPU ms per call"];
        let mut table = Table::new("Fleet: reads of one client over one connection", &columns);
        let client = process.api_client()?;
        let mut connection = client.connection();
        for (name, spread) in [("DescribeThing, any", true), ("DescribeThing, the same", false)] {
            progress(&format!("fleet: {name}"));
            let mut calls = Calls::start(process)?;
            for call in 0..CALLS {
                let number = if spread { scattered(call) % self.plan.things } else { 0 };
                let thing = self::name(number);
                let path = ["things", &thing];
                calls.time(connection.call("iot", Method::GET, &path, &[], &[], "")).await?;
            }
            calls.row(&mut table, name)?;
        }
        progress("fleet: ListThings");
        let mut calls = Calls::start(process)?;
        let mut token: Option<String> = None;
        for _ in 0..PAGES {
            let mut query = vec![("maxResults", LIST_ITEMS)];
            query.extend(token.as_deref().map(|token| ("nextToken", token)));
            let call = connection.call("iot", Method::GET, &["things"], &query, &[], "");
            let page: Value = serde_json::from_slice(&calls.time(call).await?)?;
            token = page["nextToken"].as_str().map(str::to_owned);
        }
        calls.row(&mut table, &format!("ListThings, pages of {LIST_ITEMS}"))?;
        table.note(format!(
            "Any: {CALLS} things all over the store. The first page of a list is read again behind \
             the last."
        ));
        Ok(table)
    }

    /// Has the host make an index, searches it, and starts the host with it.
    async fn search(
        &self,
        process: Process,
        hosts: &mut Table,
        since: Option<(Size, u32)>,
    ) -> Result<Table> {
        let columns = ["what", "calls", "things", "seconds", "p50 ms", "p99 ms"];
        let mut table = Table::new("Fleet: the index", &columns);
        let client = process.api_client()?;
        let mut connection = client.connection();
        let connected = connect(&process, CONNECTED.min(self.plan.things)).await?;
        progress("fleet: the index is made");
        let begin = SystemClock.now();
        let config = indexing().to_string();
        ask(&mut connection, Method::POST, &["indexing", "config"], &config).await?;
        wait_for_index(&mut connection).await?;
        let taken = begin.elapsed().as_secs_f64();
        table.row([
            "index made".into(),
            Cell::Absent,
            Cell::Absent,
            Cell::Number(taken),
            Cell::Absent,
            Cell::Absent,
        ]);
        for query in QUERIES {
            progress(&format!("fleet: {query}"));
            let body = json!({ "queryString": query, "maxResults": SEARCH_ITEMS }).to_string();
            let path = ["indices", "search"];
            search_row(&mut table, &mut connection, query, &path, &body).await?;
        }
        let query = format!("{} by attributes.line", QUERIES[0]);
        let body = json!({ "queryString": QUERIES[0], "aggregationField": "attributes.line" });
        let path = ["indices", "statistics"];
        search_row(&mut table, &mut connection, &query, &path, &body.to_string()).await?;
        table.note(format!("{CONNECTED} things are connected; pages of {SEARCH_ITEMS}."));
        connected.close().await;
        sleep(SETTLE).await;
        Size::of(&process)?.row(hosts, "with the index", None, since);
        process.stop()?;
        progress("fleet: started again with the index");
        let process = self.gnomon.start_on(self.folder).await?;
        let begin = SystemClock.now();
        let client = process.api_client()?;
        wait_for_index(&mut client.connection()).await?;
        let taken = begin.elapsed().as_secs_f64();
        Size::of(&process)?.row(hosts, "started again with the index", Some(&process), since);
        table.row([
            "index there again, after ready".into(),
            Cell::Absent,
            Cell::Absent,
            Cell::Number(taken),
            Cell::Absent,
            Cell::Absent,
        ]);
        Ok(table)
    }
}

/// What a host takes.
#[derive(Clone, Copy)]
struct Size {
    resident: u64,
    store: u64,
}

impl Size {
    fn of(process: &Process) -> Result<Self> {
        let store = process.file_bytes(STORE)?;
        Ok(Self { resident: process.resident_bytes()?, store })
    }

    /// `process` when it was just started; `since` is what it took without things, and how many it
    /// has now.
    fn row(
        self,
        table: &mut Table,
        name: &str,
        process: Option<&Process>,
        since: Option<(Self, u32)>,
    ) {
        let each = |part: fn(Self) -> u64| {
            since.map(|(empty, things)| {
                part(self).saturating_sub(part(empty)) as f64 / f64::from(things)
            })
        };
        table.row([
            name.into(),
            process.map(|process| process.ready_after.as_secs_f64()).into(),
            Cell::Count(self.resident / 1_024),
            each(|it| it.resident).into(),
            Cell::Count(self.store / 1_024),
            each(|it| it.store).into(),
        ]);
    }
}

/// CPU time of host and client, and time, from here on.
struct Meter<'a> {
    process: &'a Process,
    host: Duration,
    client: Duration,
    begin: std::time::Instant,
}

impl<'a> Meter<'a> {
    fn start(process: &'a Process) -> Result<Self> {
        let (host, client) = (process.cpu()?, process_cpu());
        Ok(Self { process, host, client, begin: SystemClock.now() })
    }

    fn row(
        &self,
        table: &mut Table,
        name: &str,
        things: u32,
        [p50, p99]: [Option<f64>; 2],
    ) -> Result<()> {
        let taken = self.begin.elapsed().as_secs_f64();
        let thousands = f64::from(things) / 1e3;
        let host = self.process.cpu()?.saturating_sub(self.host).as_secs_f64();
        let client = process_cpu().saturating_sub(self.client).as_secs_f64();
        table.row([
            name.into(),
            Cell::Count(things.into()),
            Cell::Number(f64::from(things) / taken),
            Cell::Number(host / thousands),
            Cell::Number(client / thousands),
            p50.into(),
            p99.into(),
        ]);
        Ok(())
    }
}

/// How long calls of one operation take.
struct Calls<'a> {
    process: &'a Process,
    host: Duration,
    each: Vec<Duration>,
}

impl<'a> Calls<'a> {
    fn start(process: &'a Process) -> Result<Self> {
        Ok(Self { process, host: process.cpu()?, each: Vec::new() })
    }

    async fn time<T>(
        &mut self,
        call: impl Future<Output = std::result::Result<T, ClientError>>,
    ) -> Result<T> {
        let begin = SystemClock.now();
        let answer = call.await?;
        self.each.push(begin.elapsed());
        Ok(answer)
    }

    fn row(mut self, table: &mut Table, name: &str) -> Result<()> {
        let cpu = self.process.cpu()?.saturating_sub(self.host);
        let calls = self.each.len();
        self.each.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&self.each, percent).map(millis));
        table.row([
            name.into(),
            Cell::Count(calls as u64),
            p50.into(),
            p99.into(),
            Cell::Number(millis(cpu) / calls as f64),
        ]);
        Ok(())
    }
}

/// Registers things over so many connections; returns how long each took.
async fn create_all(
    client: &Arc<Client>,
    numbers: Range<u32>,
    connections: u32,
) -> Result<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for first in 0..connections {
        let (client, numbers) = (client.clone(), numbers.clone());
        tasks.spawn(async move {
            let mut connection = client.connection();
            let mut each = Vec::new();
            for number in numbers.skip(first as usize).step_by(connections as usize) {
                let (thing, body) = (name(number), create_body(number));
                let begin = SystemClock.now();
                let path = ["things", &thing];
                connection.call("iot", Method::POST, &path, &[], &[], body).await?;
                each.push(begin.elapsed());
            }
            Result::Ok(each)
        });
    }
    let mut each = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        each.extend(ended??);
    }
    Ok(each)
}

/// As the load names its clients.
fn name(number: u32) -> String {
    format!("device-{number}")
}

/// As good as random, so that values do not come in their order.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b9)
}

fn attributes(number: u32) -> Value {
    let model = ["pump", "valve", "meter"][number as usize % 3];
    json!({
        "line": (number % LINES).to_string(),
        "site": format!("hall-{}", number % 50),
        "serial": format!("{:08x}", scattered(number)),
        "model": model,
        "firmware": format!("1.{}.{}", number % 7, number % 11),
    })
}

fn create_body(number: u32) -> String {
    let payload = json!({ "attributes": attributes(number) });
    json!({ "thingTypeName": "Sensor", "attributePayload": payload }).to_string()
}

fn bulk_template() -> Value {
    let names = ["name", "line", "site", "serial", "model", "firmware"];
    let parameters = names.map(|name| (name.to_owned(), json!({ "Type": "String" })));
    let attributes = names[1..].iter().map(|name| ((*name).to_owned(), json!({ "Ref": name })));
    json!({
        "Parameters": serde_json::Map::from_iter(parameters),
        "Resources": { "thing": { "Type": "AWS::IoT::Thing", "Properties": {
            "ThingName": { "Ref": "name" },
            "ThingTypeName": "Sensor",
            "AttributePayload": attributes.collect::<serde_json::Map<_, _>>(),
        }}},
    })
}

fn indexing() -> Value {
    json!({ "thingIndexingConfiguration": {
        "thingIndexingMode": "REGISTRY",
        "thingConnectivityIndexingMode": "STATUS",
        "customFields": [{ "name": "attributes.line", "type": "Number" }],
    }})
}

async fn ask(
    connection: &mut Connection<'_>,
    method: Method,
    path: &[&str],
    body: &str,
) -> Result<Value> {
    let answer = connection.call("iot", method, path, &[], &[], body.to_owned()).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Returns when the index is there.
async fn wait_for_index(connection: &mut Connection<'_>) -> Result<()> {
    let begin = SystemClock.now();
    while begin.elapsed() < INDEX_TIMEOUT {
        let index = ask(connection, Method::GET, &["indices", "AWS_Things"], "").await?;
        if index["indexStatus"] == "ACTIVE" {
            return Ok(());
        }
        sleep(INDEX_POLL).await;
    }
    Err("the index is not ACTIVE after ten minutes".into())
}

async fn search_row(
    table: &mut Table,
    connection: &mut Connection<'_>,
    name: &str,
    path: &[&str],
    body: &str,
) -> Result<()> {
    let mut each = Vec::new();
    let mut things = None;
    for _ in 0..SEARCHES {
        let begin = SystemClock.now();
        let answer = ask(connection, Method::POST, path, body).await?;
        each.push(begin.elapsed());
        let page = answer["things"].as_array().map(|things| things.len() as u64);
        things = page.or(answer["statistics"]["count"].as_u64());
    }
    each.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| percentile(&each, percent).map(millis).into());
    let calls = Cell::Count(each.len() as u64);
    table.row([name.into(), calls, things.into(), Cell::Absent, p50, p99]);
    Ok(())
}

/// Clients with the ids `device-0` and so on.
async fn connect(process: &Process, count: u32) -> Result<Fleet> {
    let options =
        Options { client_id: "device".into(), connections_only: Some(count), ..process.plain() };
    let mut fleet = Fleet::new(gnomon_load::Plan::new(&options)?).await?;
    fleet.grow(count).await;
    Ok(fleet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_file_has_what_the_template_asks_for() {
        let template = bulk_template();
        let asked: Vec<_> = template["Parameters"].as_object().unwrap().keys().cloned().collect();
        let mut line = attributes(7);
        line["name"] = json!(name(7));
        let given: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(asked, given);
        assert_eq!(given.len(), 6);
    }
}
