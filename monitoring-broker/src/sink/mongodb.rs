//! MongoDB: a document per message in one collection. In: batches. Out: unordered inserts with identifiers that
//! are the messages' own, so that a batch that is sent again adds nothing.
//! The driver finds the members of a replica set and its primary; after a failure we make a new one, with the
//! password as it is then.

use std::time::Duration;

use ::mongodb::bson::{Document, doc};
use ::mongodb::options::{
    Acknowledgment, ClientOptions, Credential as Login, ServerAddress, Tls, TlsOptions,
    WriteConcern,
};
use ::mongodb::{Client, Collection, IndexModel};
use url::Url;

use super::Form;
use super::failure::{Failure, Reason};
use super::mongodb_documents::document;
use super::mongodb_failure::{failure, left_out};
use super::net::Endpoint;
use super::options::{OptionError, decoded, user};
use super::query::{Query, host};
use super::secret::Credential;
use crate::api::service::MessageView;

const PORT: u16 = 27_017;
/// The longest name of a database or collection that we take; the two together must be below 255 bytes.
const MOST_NAME: usize = 63;
/// How long the driver looks for a primary before it says what it found instead. It is shorter than an attempt,
/// so that the reason is told and not only that time is up.
const FIND_LIMIT: Duration = Duration::from_secs(5);

/// Where and how.
#[derive(Clone, Debug)]
pub struct MongodbOptions {
    endpoint: Endpoint,
    /// Further members of the replica set, to begin with.
    others: Vec<(String, u16)>,
    replica_set: Option<String>,
    direct: bool,
    login: Option<(String, Credential)>,
    auth_source: String,
    database: String,
    collection: String,
    create: bool,
}

impl MongodbOptions {
    /// Takes what is ours from a URL and the further hosts in it; and the name of the sink. Options of MongoDB's
    /// own connection strings have the names that they have there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(
        url: &Url,
        others: &[Url],
        query: &mut Query,
    ) -> Result<(Self, String), OptionError> {
        let is_tls = query.flag("tls", false)?;
        let endpoint = query.endpoint(url, PORT, is_tls)?;
        let path = decoded(url.path().trim_start_matches('/'))?;
        let auth_source = query.text("authSource").unwrap_or_else(|| {
            let default = if path.is_empty() { "admin" } else { &path };
            default.to_owned()
        });
        let database = if path.is_empty() {
            "akri_mqtt".to_owned()
        } else {
            path
        };
        let collection = query.text("collection");
        let options = Self {
            others: others
                .iter()
                .map(|other| host(other, PORT))
                .collect::<Result<_, _>>()?,
            replica_set: query.text("replicaSet"),
            direct: query.flag("directConnection", false)?,
            login: login(user(url)?, query.password(url)?)?,
            auth_source,
            database: name("the database", database)?,
            collection: name(
                "collection",
                collection.unwrap_or_else(|| "akri_mqtt_messages".to_owned()),
            )?,
            create: query.flag("create", true)?,
            endpoint,
        };
        let name = format!(
            "mongodb://{}/{}",
            options.endpoint.authority(),
            options.database
        );
        Ok((options, name))
    }

    fn hosts(&self) -> Vec<ServerAddress> {
        let first = (self.endpoint.host.clone(), self.endpoint.port);
        let all = std::iter::once(first).chain(self.others.iter().cloned());
        all.map(|(host, port)| ServerAddress::Tcp {
            host,
            port: Some(port),
        })
        .collect()
    }
}

fn login(
    user: Option<String>,
    password: Option<Credential>,
) -> Result<Option<(String, Credential)>, OptionError> {
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some((user, password))),
        _ => Err(OptionError(
            "a user needs a password or password-file, and the other way round".to_owned(),
        )),
    }
}

fn name(what: &str, text: String) -> Result<String, OptionError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_name = (1..=MOST_NAME).contains(&text.len()) && text.chars().all(is_allowed);
    is_name.then_some(text).ok_or_else(|| {
        OptionError(format!(
            "{what}: allowed are {MOST_NAME} ASCII letters, digits, - and _"
        ))
    })
}

/// See the module.
pub struct Mongodb {
    options: MongodbOptions,
    store_id: String,
    collection: Option<Collection<Document>>,
}

impl Mongodb {
    /// Connects when it is needed.
    pub fn new(options: MongodbOptions, store_id: &str) -> Self {
        Self {
            options,
            store_id: store_id.to_owned(),
            collection: None,
        }
    }

    /// Sends messages. Those whose JSON or readings the server does not take go without them.
    pub async fn send(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
        let left = match self.insert(messages.iter(), Form::Full).await {
            Err(failure) if failure.is_refusal() && messages.len() == 1 => vec![0],
            other => other?.0,
        };
        if left.is_empty() {
            return Ok(());
        }
        let plain = left.iter().filter_map(|&index| messages.get(index));
        match self.insert(plain, Form::Plain).await? {
            (_, None) => Ok(()),
            (_, Some(failure)) => Err(failure),
        }
    }

    /// Closes the connections.
    pub fn reset(&mut self) {
        self.collection = None;
    }

    /// Which messages the server does not take, by their places, and what it said of the first of them.
    async fn insert<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a MessageView>,
        form: Form,
    ) -> Result<(Vec<usize>, Option<Failure>), Failure> {
        let documents: Vec<_> = messages
            .map(|message| document(&self.store_id, message, form))
            .collect();
        let collection = match &self.collection {
            Some(collection) => collection,
            None => {
                let made = connect(&self.options).await?;
                self.collection.insert(made)
            }
        };
        match collection.insert_many(&documents).ordered(false).await {
            Ok(_) => Ok((Vec::new(), None)),
            Err(error) => left_out(&error),
        }
    }
}

async fn connect(options: &MongodbOptions) -> Result<Collection<Document>, Failure> {
    let mut settings = ClientOptions::builder().hosts(options.hosts()).build();
    settings.app_name = Some("akri-mqtt-monitoring-broker".to_owned());
    settings.repl_set_name.clone_from(&options.replica_set);
    settings.direct_connection = Some(options.direct);
    settings.server_selection_timeout = Some(FIND_LIMIT);
    // A sink has one batch on its way.
    settings.max_pool_size = Some(1);
    // What is acknowledged survives the loss of the primary: our position moves on after it.
    let concern = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true);
    settings.write_concern = Some(concern.build());
    if let Some((user, password)) = &options.login {
        let password = password.read().await;
        let password = password.map_err(|error| Failure::new(Reason::Auth, error))?;
        let login = Login::builder()
            .username(user.clone())
            .password(password.expose().to_owned())
            .source(options.auth_source.clone());
        settings.credential = Some(login.build());
    }
    if let Some(tls) = &options.endpoint.tls {
        if tls.ca_file.is_some() {
            // The driver passes over what is no certificate; we say so.
            tls.connector().await?;
        }
        let tls = TlsOptions::builder().ca_file_path(tls.ca_file.clone());
        settings.tls = Some(Tls::Enabled(tls.build()));
    }
    let client = Client::with_options(settings).map_err(|error| failure(&error))?;
    let database = client.database(&options.database);
    let collection = database.collection(&options.collection);
    if options.create {
        let keys = doc! {"meta.device_id": 1, "received_at": -1};
        let index = IndexModel::builder().keys(keys).build();
        let made = collection.create_index(index).await;
        made.map_err(|error| failure(&error))?;
    }
    Ok(collection)
}
