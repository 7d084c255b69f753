//! A primary of a replica set that speaks enough of MongoDB's wire protocol for the driver to write to it, and
//! fails as it is told. Debian has no MongoDB, so this stands where a real one should.
//! Left to others: queries, authentication that succeeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akri_mqtt_tests::certificates::ServerCertificate;
use bson::{Document, doc};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
const MOST_MESSAGE: usize = 48 << 20;
pub const MOST_DOCUMENT: i32 = 100_000;

/// What becomes of one insert.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// An error of the whole command; nothing is written.
    Command(i32, &'static str),
    /// Everything is written, and may be lost again.
    WriteConcern,
    /// Half of it is written, and the connection ends without an answer.
    Cut,
    /// Everything is written, and the answer comes late.
    Slow(Duration),
}

#[derive(Default)]
pub struct State {
    /// In the order in which they came.
    pub documents: Vec<Document>,
    ids: BTreeSet<String>,
    /// Commands without what they insert, by name; the latest.
    pub commands: BTreeMap<String, Document>,
    pub faults: VecDeque<Fault>,
    /// Documents whose JSON has a field of this name fail a validator.
    pub refused_field: Option<&'static str>,
    /// Documents with this payload break a unique index that is not that of `_id`.
    pub refused_payload: Option<&'static [u8]>,
    pub duplicates: usize,
}

impl State {
    /// Writes a document, or says why not.
    fn insert(&mut self, document: Document) -> Result<(), (i32, String)> {
        let id = document.get_str("_id").unwrap().to_owned();
        let payload = document.get_binary_generic("payload").unwrap();
        if self
            .refused_payload
            .is_some_and(|refused| payload == refused)
        {
            let text = "E11000 duplicate key error collection: plant.c index: payload_1 dup key: { payload: \"s3cret\" }";
            return Err((11_000, text.to_owned()));
        }
        let json = document.get_document("payload_json");
        let has_field = |name| json.is_ok_and(|json| json.contains_key(name));
        if self.refused_field.is_some_and(has_field) {
            return Err((121, "Document failed validation".to_owned()));
        }
        if !self.ids.insert(id.clone()) {
            self.duplicates += 1;
            let text = format!(
                "E11000 duplicate key error collection: plant.c index: _id_ dup key: {{ _id: \"{id}\" }}"
            );
            return Err((11_000, text));
        }
        self.documents.push(document);
        Ok(())
    }

    fn insert_all(&mut self, documents: Vec<Document>) -> Document {
        let (mut n, mut errors) = (0, Vec::new());
        for (index, document) in documents.into_iter().enumerate() {
            match self.insert(document) {
                Ok(()) => n += 1,
                Err((code, text)) => errors.push(
                    doc! {"index": i32::try_from(index).unwrap(), "code": code, "errmsg": text},
                ),
            }
        }
        let mut answer = doc! {"ok": 1.0, "n": n};
        if !errors.is_empty() {
            answer.insert("writeErrors", errors);
        }
        answer
    }
}

pub type Shared = Arc<Mutex<State>>;

/// It keeps what it has when it ends and starts again.
pub struct Server {
    pub state: Shared,
    pub address: SocketAddr,
    tls: Option<TlsAcceptor>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub async fn start(certificate: Option<&ServerCertificate>) -> Self {
        let mut server = Self {
            state: Shared::default(),
            address: ([127, 0, 0, 1], 0).into(),
            tls: certificate.map(acceptor),
            task: None,
        };
        server.restart().await;
        server
    }

    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (state, tls, address) = (Arc::clone(&self.state), self.tls.clone(), self.address);
        self.task = Some(tokio::spawn(async move {
            // Its connections end with it.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, state, address).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, state, address).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        }));
    }

    /// All connections are cut.
    pub async fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap().documents.len()
    }

    /// The numbers that were published, in the order in which they came.
    pub fn payloads(&self) -> Vec<u32> {
        let state = self.state.lock().unwrap();
        let payloads = state.documents.iter().map(|document| {
            let bytes = document.get_binary_generic("payload").unwrap();
            std::str::from_utf8(bytes).unwrap().parse().unwrap()
        });
        payloads.collect()
    }
}

fn acceptor(certificate: &ServerCertificate) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// One connection, to its end.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    state: Shared,
    address: SocketAddr,
) -> Option<()> {
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header).await.ok()?;
        let number = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let length = usize::try_from(number(0)).unwrap();
        assert!((16..=MOST_MESSAGE).contains(&length), "{length} bytes");
        let mut body = vec![0; length - 16];
        stream.read_exact(&mut body).await.ok()?;
        let answer = match number(12) {
            OP_QUERY => {
                let mut reply = vec![0; 20];
                reply[16] = 1; // one document
                reply.extend(hello(address).to_vec().unwrap());
                (OP_REPLY, reply)
            }
            OP_MSG => {
                let (command, documents) = read(&body);
                let answer = answer(&state, address, command, documents).await?;
                let mut reply = vec![0; 5]; // no flags, a section of kind 0
                reply.extend(answer.to_vec().unwrap());
                (OP_MSG, reply)
            }
            other => panic!("opcode {other}"),
        };
        let (code, body) = answer;
        let mut reply = i32::try_from(body.len() + 16)
            .unwrap()
            .to_le_bytes()
            .to_vec();
        for number in [0, number(4), code] {
            reply.extend(number.to_le_bytes());
        }
        reply.extend(body);
        stream.write_all(&reply).await.ok()?;
    }
}

/// The command of an OP_MSG and the documents of its sequence.
fn read(body: &[u8]) -> (Document, Vec<Document>) {
    let (mut command, mut documents, mut rest) = (Document::new(), Vec::new(), &body[4..]);
    while let Some((kind, mut section)) = rest.split_first() {
        if *kind == 0 {
            command = Document::from_reader(&mut section).unwrap();
            rest = section;
        } else {
            let size = u32::from_le_bytes(section[..4].try_into().unwrap());
            let (sequence, after) = section.split_at(usize::try_from(size).unwrap());
            let name = sequence[4..].iter().position(|byte| *byte == 0).unwrap();
            let mut left = &sequence[4 + name + 1..];
            while !left.is_empty() {
                documents.push(Document::from_reader(&mut left).unwrap());
            }
            rest = after;
        }
    }
    (command, documents)
}

fn hello(address: SocketAddr) -> Document {
    let me = address.to_string();
    doc! {
        "ok": 1.0, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "setName": "rs0",
        "hosts": [&me], "me": &me, "primary": &me, "maxBsonObjectSize": MOST_DOCUMENT,
        "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "minWireVersion": 0,
        "maxWireVersion": 21, "logicalSessionTimeoutMinutes": 30, "readOnly": false,
    }
}

/// None: the connection ends.
async fn answer(
    state: &Shared,
    address: SocketAddr,
    command: Document,
    mut documents: Vec<Document>,
) -> Option<Document> {
    let name = command.keys().next().unwrap().clone();
    let fault = {
        let mut state = state.lock().unwrap();
        state.commands.insert(name.clone(), command);
        (name == "insert")
            .then(|| state.faults.pop_front())
            .flatten()
    };
    match (name.as_str(), fault) {
        ("hello" | "isMaster" | "ismaster", _) => Some(hello(address)),
        ("saslStart", _) => Some(error(18, "Authentication failed.")),
        ("insert", Some(Fault::Command(code, text))) => Some(error(code, text)),
        ("insert", Some(Fault::WriteConcern)) => {
            let mut answer = state.lock().unwrap().insert_all(documents);
            let concern = doc! {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out"};
            answer.insert("writeConcernError", concern);
            Some(answer)
        }
        ("insert", Some(Fault::Cut)) => {
            documents.truncate(documents.len() / 2);
            state.lock().unwrap().insert_all(documents);
            None
        }
        ("insert", Some(Fault::Slow(time))) => {
            let answer = state.lock().unwrap().insert_all(documents);
            tokio::time::sleep(time).await;
            Some(answer)
        }
        ("insert", None) => Some(state.lock().unwrap().insert_all(documents)),
        _ => Some(doc! {"ok": 1.0}),
    }
}

fn error(code: i32, text: &str) -> Document {
    doc! {"ok": 0.0, "code": code, "codeName": "Error", "errmsg": text}
}
