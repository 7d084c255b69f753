use std::sync::Arc;

use akri_mqtt_proto::akri::registration_client::RegistrationClient;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Endpoint as Target;

use super::*;
use crate::discover::Metrics;
use crate::handlers::Book;

fn request(name: &str, endpoint: &str) -> RegisterDiscoveryHandlerRequest {
    RegisterDiscoveryHandlerRequest {
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
        endpoint_type: EndpointType::Uds.into(),
        shared: true,
    }
}

fn at_network(endpoint: &str) -> RegisterDiscoveryHandlerRequest {
    RegisterDiscoveryHandlerRequest {
        endpoint_type: EndpointType::Network.into(),
        ..request("mqtt", endpoint)
    }
}

struct Serving {
    handlers: Handlers,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
    path: PathBuf,
}

async fn start(directory: &Path) -> Serving {
    let socket = Socket::bind(directory).await.unwrap();
    let path = socket.path().to_owned();
    let (handlers, shutdown) = (Handlers::new(Metrics::default()), Shutdown::new());
    let task = tokio::spawn(serve(socket, handlers.clone(), shutdown.clone()));
    Serving {
        handlers,
        shutdown,
        task,
        path,
    }
}

impl Serving {
    async fn register(&self, request: RegisterDiscoveryHandlerRequest) -> Result<(), Status> {
        let target = Target::from_shared(format!("unix:{}", self.path.display())).unwrap();
        let channel = target.connect().await.unwrap();
        let mut client = RegistrationClient::new(channel);
        client.register_discovery_handler(request).await.map(drop)
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.handlers.watch().borrow())
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
        assert!(!self.path.exists());
    }
}

#[tokio::test]
async fn handlers_of_both_kinds_of_endpoints_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let serving = start(directory.path()).await;
    let socket = directory.path().join("mqtt-r.sock");
    let named = socket.display().to_string();
    serving.register(request("mqtt", &named)).await.unwrap();
    let url = "http://[fd00::1]:10000";
    serving.register(at_network(url)).await.unwrap();
    let expected = [
        Endpoint::Unix(socket),
        Endpoint::Network("[fd00::1]:10000".parse().unwrap()),
    ];
    let known: Vec<_> = serving.book()["mqtt"].endpoints.keys().cloned().collect();
    assert_eq!(known, expected);
    serving.stop().await;
}

#[tokio::test]
async fn a_handler_whose_devices_are_not_shared_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let serving = start(directory.path()).await;
    let socket = directory.path().join("udev.sock").display().to_string();
    let refused = RegisterDiscoveryHandlerRequest {
        shared: false,
        ..request("udev", &socket)
    };
    let status = serving.register(refused).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("shared: true"), "{status:?}");
    assert!(serving.book()["udev"].not_shared);
    serving.stop().await;
}

#[tokio::test]
async fn what_is_no_registration_is_refused_and_says_what_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let serving = start(directory.path()).await;
    let inside = |name: &str| directory.path().join(name).display().to_string();
    let wrong = [
        request("", &inside("a.sock")),
        request("two words", &inside("a.sock")),
        request(&"n".repeat(254), &inside("a.sock")),
        request("mqtt", ""),
        request("mqtt", "a.sock"),
        request("mqtt", "/etc/passwd"),
        request("mqtt", &inside("../a.sock")),
        request("mqtt", &inside("sub/a.sock")),
        request("mqtt", &inside(SOCKET)),
        request("mqtt", &inside(&"s".repeat(200))),
        request("mqtt", "http://10.0.0.1:80"),
        at_network("https://10.0.0.1:80"),
        at_network("http://example:80"),
        at_network("http://10.0.0.1"),
        at_network("http://10.0.0.1:0"),
        at_network("http://0.0.0.0:80"),
        at_network("http://user@10.0.0.1:80"),
        at_network("http://10.0.0.1:80/path"),
        RegisterDiscoveryHandlerRequest {
            endpoint_type: 7,
            ..request("mqtt", &inside("a.sock"))
        },
    ];
    for request in wrong {
        let status = serving.register(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        assert!(status.message().contains("allowed"), "{status:?}");
    }
    assert!(serving.book().is_empty());
    serving.stop().await;
}

#[tokio::test]
async fn a_socket_of_a_dead_process_is_replaced_and_one_of_a_living_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SOCKET);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = Socket::bind(directory.path()).await.unwrap();
    let second = Socket::bind(directory.path()).await;
    assert!(matches!(second, Err(SocketError::InUse { .. })));
    drop(first);
    assert!(!path.exists());
    // An Akri Agent holds no lock of ours.
    let _agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let beside = Socket::bind(directory.path()).await;
    assert!(matches!(beside, Err(SocketError::InUse { .. })));
    assert!(path.exists());
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Socket::bind(&directory.path().join("missing")).await;
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("--handlers-directory"), "{text}");
    std::fs::write(directory.path().join(SOCKET), "x").unwrap();
    let file = Socket::bind(directory.path()).await;
    assert!(matches!(file, Err(SocketError::NotASocket { .. })));
    let long = directory.path().join("d".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let error = Socket::bind(&long).await.unwrap_err();
    assert!(matches!(error, SocketError::PathTooLong { .. }));
}

#[tokio::test]
async fn whoever_may_write_into_the_directory_may_connect() {
    for (of_directory, of_socket) in [(0o777, 0o666), (0o2775, 0o660), (0o755, 0o600)] {
        let directory = tempfile::tempdir().unwrap();
        let mode = Permissions::from_mode(of_directory);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let socket = Socket::bind(directory.path()).await.unwrap();
        let mode = std::fs::metadata(socket.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, of_socket);
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(name in ".*", endpoint in ".*", endpoint_type in any::<i32>()) {
        let request = RegisterDiscoveryHandlerRequest { name, endpoint, endpoint_type, shared: true };
        let _ = read(&request, Path::new("/var/lib/akri"));
    }

    #[test]
    fn almost_urls_never_panic(rest in "[0-9a-f:.\\[\\]@/#?%]{0,30}") {
        let _ = network(&format!("http://{rest}"));
    }
}
