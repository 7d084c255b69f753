//! Reads `serverUrls` and `servers`. In: nodes. Out: servers with distinct names, and faults that
//! name both lines where two are equal.

use std::collections::BTreeMap;

use super::read::{Field, Map, Reader};
use super::server::{Failover, Server, ServerUrl};
use crate::identity::ServerName;
use crate::yaml::Position;

/// How many servers a Configuration may have.
const MAX_SERVERS: usize = 64;
/// How many members one logical server may have.
const MAX_URLS: usize = 16;

const SERVER_KEYS: [&str; 3] = ["name", "urls", "failover"];

/// Reads both keys; at least one server must be there.
pub(super) fn servers(reader: &mut Reader, top: &Map<'_>) -> Vec<Server> {
    let mut found: Vec<(Server, Position, String)> = Vec::new();
    let mut written = 0;
    if let Some(field) = top.get("serverUrls") {
        for element in reader.list(&field, "servers", MAX_SERVERS) {
            written += 1;
            if let Some(url) = url(reader, &element) {
                found.push((of_url(url), element.at, element.key));
            }
        }
    }
    if let Some(field) = top.get("servers") {
        for element in reader.list(&field, "servers", MAX_SERVERS) {
            written += 1;
            if let Some(server) = server(reader, &element) {
                found.push((server, element.at, element.key));
            }
        }
    }
    let empty = |field: Field<'_>| field.node.elements().is_some_and(<[_]>::is_empty);
    let all_empty = ["serverUrls", "servers"]
        .iter()
        .all(|key| top.get(key).is_none_or(empty));
    let place = ["serverUrls", "servers"]
        .iter()
        .find_map(|key| Some((top.place_of(key)?, *key)));
    match place {
        None => {
            let start = Position { line: 1, column: 1 };
            let message = "found no server; allowed is `serverUrls` with a list such as [tcp://10.0.0.5:1883], or `servers`";
            reader.fault(start, "", message.to_owned());
        }
        Some((at, key)) if written > MAX_SERVERS => {
            reader.fault(
                at,
                key,
                format!("found {written} servers; allowed are {MAX_SERVERS}"),
            );
        }
        Some((at, key)) if all_empty => {
            reader.fault(
                at,
                key,
                "found an empty list; allowed is at least one server".to_owned(),
            );
        }
        Some(_) => {}
    }
    distinct(reader, found)
}

/// The server that a single URL stands for.
pub(super) fn of_url(url: ServerUrl) -> Server {
    Server {
        name: ServerName::from_host_port(&url.host, url.port),
        urls: vec![url],
        failover: Failover::default(),
    }
}

fn url(reader: &mut Reader, field: &Field<'_>) -> Option<ServerUrl> {
    let text = reader.text(field, "a URL such as tcp://10.0.0.5:1883")?;
    ServerUrl::parse(text)
        .map_err(|error| reader.fault(field.at, &field.key, error.to_string()))
        .ok()
}

fn server(reader: &mut Reader, field: &Field<'_>) -> Option<Server> {
    let map = reader.map(field, &SERVER_KEYS)?;
    let choices = [
        ("ordered", Failover::Ordered),
        ("roundRobin", Failover::RoundRobin),
    ];
    let failover = map
        .get("failover")
        .and_then(|f| reader.choice(&f, &choices))
        .unwrap_or_default();
    let name = map.get("name").map(|f| {
        reader.parsed(
            &f,
            "1 to 32 characters out of a-z, 0-9 and `-`",
            ServerName::parse,
        )
    });
    let Some(list) = map.get("urls") else {
        reader.fault(
            field.at,
            &field.key,
            "found no `urls`; allowed is a list such as [tcp://a:1883]".to_owned(),
        );
        return None;
    };
    let elements = reader.list(&list, "URLs", MAX_URLS);
    if elements.is_empty() && list.node.elements().is_some() {
        reader.fault(
            list.at,
            &list.key,
            "found an empty list; allowed is at least one URL".to_owned(),
        );
    }
    let mut urls = Vec::new();
    for element in elements {
        let Some(url) = url(reader, &element) else {
            continue;
        };
        if urls.contains(&url) {
            reader.fault(
                element.at,
                &element.key,
                format!("found {url} a second time; each member stands there once"),
            );
        }
        urls.push(url);
    }
    let first = urls.first()?;
    let name = match name {
        Some(name) => name?,
        None => ServerName::from_host_port(&first.host, first.port),
    };
    Some(Server {
        name,
        urls,
        failover,
    })
}

fn distinct(reader: &mut Reader, found: Vec<(Server, Position, String)>) -> Vec<Server> {
    let mut seen: BTreeMap<ServerName, u32> = BTreeMap::new();
    let mut servers = Vec::new();
    for (server, at, key) in found {
        if let Some(line) = seen.get(&server.name) {
            let message = format!(
                "the server in line {line} has the name `{}` too; give one of them another `name` under `servers`",
                server.name
            );
            reader.fault(at, &key, message);
        } else {
            seen.insert(server.name.clone(), at.line);
        }
        servers.push(server);
    }
    servers
}
