//! PostgreSQL: a row per message in a table that is made if it is missing, and if asked a row per reading in
//! another. In: batches. Out: one transaction a batch: COPY into a temporary table, then INSERT of what is not
//! there yet, so that a batch that is sent again changes nothing.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, NoTls, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Error};
use tokio_rustls::TlsConnector;
use url::Url;

use super::Form;
use super::failure::{Failure, Reason};
use super::net::{Endpoint, Stream};
use super::options::{OptionError, decoded, user};
use super::postgres_rows::{self as rows, Table};
use super::query::Query;
use super::secret::Credential;
use crate::api::service::MessageView;

const PORT: u16 = 5432;

/// Where and how.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    endpoint: Endpoint,
    database: String,
    user: String,
    password: Option<Credential>,
    table: Table,
    readings: Option<Table>,
    create: bool,
}

impl PostgresOptions {
    /// Takes what is ours from a URL; and the name of the sink.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(url: &Url, query: &mut Query) -> Result<(Self, String), OptionError> {
        let ssl = query.choice("sslmode", &["disable", "require", "verify-full"])?;
        let endpoint = query.endpoint(url, PORT, ssl != "disable")?;
        let database = decoded(url.path().trim_start_matches('/'))?;
        let user = user(url)?.ok_or_else(|| OptionError("it names no user".to_owned()))?;
        let table = query.text("table");
        let table = table.as_deref().unwrap_or("akri_mqtt_messages");
        let readings = query.text("readings-table");
        let options = Self {
            database: if database.is_empty() {
                user.clone()
            } else {
                database
            },
            user,
            password: query.password(url)?,
            table: Table::parse(table).map_err(OptionError)?,
            readings: match &readings {
                Some(name) => Some(Table::parse(name).map_err(OptionError)?),
                None => None,
            },
            create: query.flag("create", true)?,
            endpoint,
        };
        let authority = options.endpoint.authority();
        let name = format!("postgres://{authority}/{}", options.database);
        Ok((options, name))
    }
}

/// See the module.
pub struct Postgres {
    options: PostgresOptions,
    store_id: String,
    client: Option<Client>,
}

impl Postgres {
    /// Connects when it is needed.
    pub fn new(options: PostgresOptions, store_id: &str) -> Self {
        Self {
            options,
            store_id: store_id.to_owned(),
            client: None,
        }
    }

    /// Sends messages, all or none of them. A single one whose JSON the server does not take goes without it.
    pub async fn send(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
        match self.send_as(messages, Form::Full).await {
            Err(failure) if failure.is_refusal() && messages.len() == 1 => {
                self.reset();
                self.send_as(messages, Form::Plain).await
            }
            other => other,
        }
    }

    /// Closes the connection.
    pub fn reset(&mut self) {
        self.client = None;
    }

    async fn send_as(&mut self, messages: &[MessageView], form: Form) -> Result<(), Failure> {
        let client = match &mut self.client {
            Some(client) => client,
            None => {
                let made = connect(&self.options).await?;
                self.client.insert(made)
            }
        };
        let options = &self.options;
        let text = rows::messages(&self.store_id, messages, form);
        let readings = options.readings.as_ref().filter(|_| form == Form::Full);
        let readings = readings.map(|table| (table, rows::readings(&self.store_id, messages)));
        let sent = async {
            let transaction = client.transaction().await?;
            copy(&transaction, &rows::copy_messages(), text).await?;
            transaction
                .batch_execute(&rows::move_messages(&options.table))
                .await?;
            if let Some((table, text)) = readings {
                copy(&transaction, &rows::copy_readings(), text).await?;
                transaction
                    .batch_execute(&rows::move_readings(table))
                    .await?;
            }
            transaction.commit().await
        };
        sent.await.map_err(|error| failure(&error))
    }
}

async fn copy(
    transaction: &tokio_postgres::Transaction<'_>,
    statement: &str,
    text: String,
) -> Result<(), Error> {
    let sink = transaction.copy_in::<_, Bytes>(statement).await?;
    let mut sink = Box::pin(sink);
    sink.send(Bytes::from(text)).await?;
    sink.as_mut().finish().await.map(drop)
}

async fn connect(options: &PostgresOptions) -> Result<Client, Failure> {
    let mut config = Config::new();
    config.user(&options.user).dbname(&options.database);
    config.application_name("akri-mqtt-monitoring-broker");
    if let Some(password) = &options.password {
        let password = password.read().await;
        let password = password.map_err(|error| Failure::new(Reason::Auth, error))?;
        config.password(password.expose());
    }
    let stream = options.endpoint.tcp().await?;
    let client = match &options.endpoint.tls {
        None => {
            config.ssl_mode(SslMode::Disable);
            let made = config.connect_raw(stream, NoTls).await;
            let (client, driver) = made.map_err(|error| failure(&error))?;
            tokio::spawn(driver);
            client
        }
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            let connector = Connector {
                connector: tls.connector().await?,
                name: options.endpoint.server_name()?,
            };
            let made = config.connect_raw(stream, connector).await;
            let (client, driver) = made.map_err(|error| failure(&error))?;
            tokio::spawn(driver);
            client
        }
    };
    let readings = options.readings.as_ref();
    if options.create {
        let tables = rows::create(&options.table, readings);
        let made = client.batch_execute(&tables).await;
        made.map_err(|error| failure(&error))?;
    }
    let temporary = rows::temporary(readings.is_some());
    let made = client.batch_execute(&temporary).await;
    made.map_err(|error| failure(&error))?;
    Ok(client)
}

fn failure(error: &Error) -> Failure {
    let Some(told) = error.as_db_error() else {
        let text = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let reason = if text.contains("TLS") || text.contains("ertificate") {
            Reason::Tls
        } else if text.contains("authentication") || text.contains("password") {
            Reason::Auth
        } else {
            Reason::Connection
        };
        return Failure::new(reason, text);
    };
    let code = told.code().code();
    let reason = match code.get(..2).unwrap_or_default() {
        "28" => Reason::Auth,
        // Data, constraints, limits of the program: they are about the rows.
        "22" | "23" | "54" => Reason::Refused,
        "3D" | "3F" | "42" | "0A" => Reason::Configuration,
        "08" => Reason::Protocol,
        _ => Reason::Unavailable,
    };
    // The detail may quote a row; the message does not.
    Failure::new(reason, format!("{code}: {}", told.message()))
}

/// Makes TLS on a connection of PostgreSQL.
struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Connector {
    type Stream = Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Stream>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let stream = self.connector.connect(self.name, stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        })
    }
}

/// It does not offer channel binding.
impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
