use super::*;
#[test]
fn x() {
    for t in [
        include_str!("../../tests/data/least.yaml"),
        include_str!("../../tests/data/everything.yaml"),
    ] {
        match Details::parse(t) {
            Ok(d) => {
                println!("{d:#?}");
                for t in [
                    "robots/r1/joints",
                    "akri-devices/Device23920/temp",
                    "zigbee2mqtt/x",
                    "system/subsystem1/device2032/a",
                ] {
                    if let Some(i) = d.identify(t) {
                        println!(
                            "{t} {i:?} {:#?}",
                            d.properties(&i.device(&d.servers[0].name))
                        );
                    }
                }
            }
            Err(e) => println!("{e}"),
        }
    }
}
