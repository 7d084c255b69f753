//! Links that are half open, full, black, slow or frozen.

use super::*;

#[tokio::test]
async fn half_open_link_is_noticed_by_the_watchdog() {
    let (server, proxy, mut options) =
        proxied(Config::new(), "half-open", VersionChoice::Auto).await;
    options.keep_alive = Duration::from_secs(2);
    let mut watched = Watched::start(options, both("half/#"));
    watched.until_subscribed().await;
    let began = Instant::now();
    proxy.swallow(Direction::ToServer);
    proxy.swallow(Direction::ToClient);
    watched
        .until("disconnected", |watched| !watched.errors.is_empty())
        .await;
    assert!(
        watched.failed_with(ErrorKind::KeepAlive),
        "{:?}",
        watched.errors
    );
    assert!(began.elapsed() >= Duration::from_secs(2));
    proxy.pass();
    proxy.cut();
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("half/x", "alive", QoS::AtLeastOnce))
        .await;
    watched
        .until("a message", |watched| !watched.messages.is_empty())
        .await;
}

#[tokio::test]
async fn writing_into_a_link_that_takes_nothing_times_out() {
    let (_server, proxy, mut options) = proxied(Config::new(), "write", VersionChoice::Auto).await;
    options.write_timeout = Duration::from_secs(1);
    let mut watched = Watched::start(options, Vec::new());
    watched
        .until("connected", |watched| !watched.connections.is_empty())
        .await;
    proxy.hold(Direction::ToServer);
    let handle = watched.handle.clone();
    let flood = tokio::spawn(async move {
        // More than the sockets between us and the proxy can hold.
        let payload = vec![0u8; 1024 * 1024];
        while handle
            .publish(Publish::new("write/x", payload.clone(), QoS::AtMostOnce))
            .await
            .is_ok()
        {}
    });
    watched
        .until("disconnected", |watched| !watched.errors.is_empty())
        .await;
    assert!(
        watched.failed_with(ErrorKind::WriteTimeout),
        "{:?}",
        watched.errors
    );
    flood.await.unwrap();
}

#[tokio::test]
async fn black_hole_of_ten_seconds_delays_and_loses_nothing() {
    let (server, proxy, options) = proxied(Config::new(), "black-hole", VersionChoice::Auto).await;
    let mut watched = Watched::start(options, both("hole/#"));
    watched.until_subscribed().await;
    proxy.freeze();
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish_all(numbered("hole/x", QoS::AtLeastOnce, 0..100))
        .await;
    publisher
        .publish_all(numbered("hole/x", QoS::ExactlyOnce, 0..100))
        .await;
    watched.watch_for(Duration::from_secs(10)).await;
    assert_eq!(watched.messages, []);
    proxy.pass();
    watched
        .until("every message", |watched| have_all(watched, 0..100))
        .await;
    assert_all_arrived(&watched, 0..100);
    assert_eq!(watched.connections, [false], "the connection stood");
}

#[tokio::test]
async fn slow_link_is_no_dead_link() {
    let (server, proxy, mut options) =
        proxied(Config::new(), "slow-link", VersionChoice::Auto).await;
    options.keep_alive = Duration::from_secs(2);
    proxy.delay(Direction::ToServer, Duration::from_millis(100));
    proxy.throttle(Direction::ToClient, 20_000);
    let mut watched = Watched::start(options, both("slow/#"));
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    // Four seconds of backlog, behind which every PINGRESP has to wait.
    let payload = vec![b'x'; 1000];
    let backlog = (0..80).map(|_| Publish::new("slow/big", payload.clone(), QoS::AtMostOnce));
    publisher.publish_all(backlog).await;
    publisher
        .publish(Publish::new("slow/x", "last", QoS::AtLeastOnce))
        .await;
    watched
        .until("the last message", |watched| {
            watched.counts().contains_key("last")
        })
        .await;
    assert_eq!(watched.connections, [false], "{:?}", watched.errors);
    assert_eq!(watched.messages.len(), 81);
}

#[tokio::test]
async fn frozen_server_is_a_dead_link_and_comes_back_with_everything() {
    let (server, _proxy, mut options) = proxied(Config::new(), "frozen", VersionChoice::Auto).await;
    options.keep_alive = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(1);
    let mut watched = Watched::start(options, both("frozen/#"));
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    server.freeze();
    watched
        .until("watchdog", |watched| {
            watched.failed_with(ErrorKind::KeepAlive)
        })
        .await;
    watched
        .until("connect time-out", |watched| {
            watched.failed_with(ErrorKind::ConnectTimeout)
        })
        .await;
    server.thaw();
    publisher
        .publish_all(numbered("frozen/x", QoS::AtLeastOnce, 0..10))
        .await;
    publisher
        .publish_all(numbered("frozen/x", QoS::ExactlyOnce, 0..10))
        .await;
    watched
        .until("every message", |watched| have_all(watched, 0..10))
        .await;
    assert_all_arrived(&watched, 0..10);
}
