//! The memory of MQTT sessions: packet ids and filters.

use super::*;

#[tokio::test]
async fn qos_2_message_is_stored_once_until_its_id_is_released_also_across_restarts() {
    let bench = Bench::new();
    let mut store = bench.open();
    for round in 0..3_u64 {
        let session = store.session("s", "client").await.unwrap();
        assert!(!session.contains(7));
        for _ in 0..3 {
            let mut message = bench.message("s/d", "t", "once");
            message.packet = Some((session.packet_ids(), 7));
            store.append(message).await.unwrap();
        }
        store.sync().await.unwrap();
        store.close().await;
        drop((session, store));
        store = bench.open();
        let session = store.session("s", "client").await.unwrap();
        assert!(session.contains(7));
        let other = store.session("s", "other").await.unwrap();
        assert!(!other.contains(7));
        let mut again = bench.message("s/d", "t", "once");
        again.packet = Some((session.packet_ids(), 7));
        store.append(again).await.unwrap();
        store.sync().await.unwrap();
        assert_eq!(u64::try_from(all(&store).await.len()).unwrap(), round + 1);
        session.release(7).await.unwrap();
        session.release(7).await.unwrap();
        assert!(!session.contains(7));
    }
}

#[tokio::test]
async fn lost_session_forgets_its_packet_ids_and_no_others() {
    let bench = Bench::new();
    let store = bench.open();
    let (mine, other) = (
        store.session("s", "mine").await.unwrap(),
        store.session("s", "other").await.unwrap(),
    );
    for (session, packet) in [(&mine, 1), (&mine, 2), (&other, 1)] {
        let mut message = bench.message("s/d", "t", "x");
        message.packet = Some((session.packet_ids(), packet));
        store.append(message).await.unwrap();
    }
    mine.clear().await.unwrap();
    assert!(!mine.contains(1) && !mine.contains(2) && other.contains(1));
    let mut message = bench.message("s/d", "t", "x");
    message.packet = Some((mine.packet_ids(), 1));
    store.append(message).await.unwrap();
    store.sync().await.unwrap();
    assert_eq!(all(&store).await.len(), 4);
}

#[tokio::test]
async fn a_shard_that_others_had_meanwhile_is_forgotten_and_no_other_one() {
    let bench = Bench::new();
    let store = bench.open();
    let names = ["c-shard-3-k1", "c-shard-3-k2", "c-shard-33-k1", "c-pod-k1"];
    for name in names {
        let session = store.session("s", name).await.unwrap();
        let mut message = bench.message("s/d", "t", "x");
        message.packet = Some((session.packet_ids(), 1));
        store.append(message).await.unwrap();
    }
    store.sync().await.unwrap();
    let text = "-shard-3-".to_owned();
    store.forget_packet_ids(text).await.unwrap();
    let mut known = Vec::new();
    for name in names {
        known.push(store.session("s", name).await.unwrap().contains(1));
    }
    assert_eq!(known, [false, false, true, true]);
}

#[tokio::test]
async fn held_filters_outlive_the_process() {
    let bench = Bench::new();
    let held = vec![("a/#".to_owned(), akri_mqtt_session::QoS::ExactlyOnce)];
    let store = bench.open();
    let session = store.session("s", "c").await.unwrap();
    session.set_subscriptions(&held).unwrap();
    store.close().await;
    drop((session, store));
    let store = bench.open();
    assert_eq!(store.session("s", "c").await.unwrap().subscriptions(), held);
    assert_eq!(store.session("s", "d").await.unwrap().subscriptions(), []);
}
