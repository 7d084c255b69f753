#!/usr/bin/env node
// A sensor that only publishes: that it is gone shows in its silence. Needs MQTT.js 5 (npm install mqtt).
// Usage: sensor.mjs [URL] [TOPIC] [PERIOD_MS]
import mqtt from "mqtt";

const [url = "mqtt://localhost:1883", topic = "akri-devices/Device23920/temp", period = "1000"] = process.argv.slice(2);
const client = await mqtt.connectAsync(url, { clientId: `sensor-${process.pid}` });
let celsius = 20;
const timer = setInterval(() => {
  celsius += Math.random() - 0.5;
  client.publish(topic, celsius.toFixed(2), { qos: 1 });
}, Number(period));

for (const name of ["SIGINT", "SIGTERM"]) {
  process.once(name, async () => {
    clearInterval(timer);
    await client.endAsync();
  });
}
