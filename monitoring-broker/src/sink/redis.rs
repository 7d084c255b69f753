//! Redis: the latest message of each topic in a hash per device, each message on a channel and, if asked, in
//! a stream. In: batches. Out: one script per batch, which Redis runs as a whole.
//! The script lets no hash go back to an older message, whatever is sent again.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError};
use url::Url;

use super::failure::{Failure, Reason};
use super::feed::Gap;
use super::net::Endpoint;
use super::options::{OptionError, user};
use super::query::Query;
use super::secret::Credential;
use crate::api::message_json;
use crate::api::service::MessageView;

const PORT: u16 = 6379;
const SCRIPT: &str = include_str!("redis.lua");
/// Redis has 16 databases unless it is told otherwise.
const MOST_DATABASE: i64 = 1_000_000;

/// Where and how.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    endpoint: Endpoint,
    database: i64,
    user: Option<String>,
    password: Option<Credential>,
    prefix: String,
    stream: Option<String>,
    most_entries: usize,
}

impl RedisOptions {
    /// Takes what is ours from a URL; and the name of the sink.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(url: &Url, query: &mut Query) -> Result<(Self, String), OptionError> {
        let endpoint = query.endpoint(url, PORT, url.scheme() == "rediss")?;
        let database = match url.path().trim_start_matches('/') {
            "" => Some(0),
            path => path.parse().ok(),
        };
        let database = database.filter(|number| (0..=MOST_DATABASE).contains(number));
        let options = Self {
            database: database.ok_or_else(|| {
                OptionError("the path is the number of a database, such as /0".to_owned())
            })?,
            user: user(url)?,
            password: query.password(url)?,
            prefix: query
                .text("prefix")
                .unwrap_or_else(|| "akri-mqtt".to_owned()),
            stream: query.text("stream"),
            most_entries: query.number("maxlen", 0, 1..=usize::MAX)?,
            endpoint,
        };
        if options.stream.is_none() && options.most_entries > 0 {
            return Err(OptionError(
                "maxlen makes sense with stream= only".to_owned(),
            ));
        }
        let name = format!(
            "{}://{}/{}",
            url.scheme(),
            options.endpoint.authority(),
            options.database
        );
        Ok((options, name))
    }
}

#[cfg(test)]
impl RedisOptions {
    /// The password of the URL.
    pub fn given_password(&self) -> Option<&super::secret::Secret> {
        match &self.password {
            Some(Credential::Given(password)) => Some(password),
            _ => None,
        }
    }
}

/// See the module.
pub struct Redis {
    options: RedisOptions,
    store_id: String,
    connection: Option<MultiplexedConnection>,
}

impl Redis {
    /// Connects when it is needed.
    pub fn new(options: RedisOptions, store_id: &str) -> Self {
        Self {
            options,
            store_id: store_id.to_owned(),
            connection: None,
        }
    }

    /// Sends messages, all or none of them.
    pub async fn send(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
        let prefix = &self.options.prefix;
        let mut command = redis::cmd("EVAL");
        let streams = usize::from(self.options.stream.is_some());
        command.arg(SCRIPT).arg(messages.len() * 2 + streams);
        for message in messages {
            let device = &message.stored.device;
            command.arg(format!("{prefix}:latest:{device}"));
            command.arg(format!("{prefix}:order:{device}"));
        }
        if let Some(stream) = &self.options.stream {
            command.arg(stream);
        }
        command.arg(format!("{prefix}:messages"));
        command.arg(self.options.most_entries);
        for message in messages {
            let stored = &message.stored;
            // Texts that sort as the numbers do: a script's numbers keep 53 bits only.
            let (time, sequence) = (stored.record.time.max(0), stored.sequence);
            command.arg(&*stored.topic).arg(&message.cursor);
            command.arg(format!("{time:020}{sequence:020}{}", self.store_id));
            command.arg(message_json(message));
        }
        self.run(&command).await
    }

    /// Publishes a gap.
    pub async fn tell(&mut self, gap: &Gap) -> Result<(), Failure> {
        let text = serde_json::json!({
            "store_id": self.store_id, "from": gap.from, "to": gap.to, "reason": gap.reason
        });
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("{}:gaps", self.options.prefix));
        command.arg(text.to_string());
        self.run(&command).await
    }

    /// Closes the connection.
    pub fn reset(&mut self) {
        self.connection = None;
    }

    async fn run(&mut self, command: &redis::Cmd) -> Result<(), Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let made = connect(&self.options).await?;
                self.connection.insert(made)
            }
        };
        // Reads the answer: an error of the server is a value to the connection.
        let answer = command.query_async::<redis::Value>(connection).await;
        answer.map(drop).map_err(|error| failure(&error))
    }
}

async fn connect(options: &RedisOptions) -> Result<MultiplexedConnection, Failure> {
    let mut info = RedisConnectionInfo::default().set_db(options.database);
    if let Some(user) = &options.user {
        info = info.set_username(user);
    }
    if let Some(password) = &options.password {
        let password = password.read().await;
        let password = password.map_err(|error| Failure::new(Reason::Auth, error))?;
        info = info.set_password(password.expose());
    }
    let stream = options.endpoint.connect().await?;
    // The runner has a limit of its own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = made.map_err(|error| failure(&error))?;
    // Ends with the connection.
    tokio::spawn(driver);
    Ok(connection)
}

fn failure(error: &RedisError) -> Failure {
    let text = error.to_string();
    let reason = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH" | "NOPERM")) => {
            Reason::Auth
        }
        (_, Some("WRONGTYPE" | "MOVED" | "ASK" | "CROSSSLOT")) => Reason::Configuration,
        // A value above proto-max-bulk-len.
        _ if text.contains("Protocol error: invalid bulk length") => Reason::Refused,
        (ErrorKind::Io, _) => Reason::Connection,
        (ErrorKind::Server(_) | ErrorKind::Extension, _) => Reason::Unavailable,
        _ => Reason::Protocol,
    };
    Failure::new(reason, text)
}
