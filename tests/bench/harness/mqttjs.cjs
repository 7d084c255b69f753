// Peer: MQTT.js that counts what it gets and stores nothing. In: port, QoS. Out: the count whenever it is asked.
const mqtt = require(process.env.AKRI_MQTT_TEST_NODE_MODULES + '/mqtt');
const [port, qos] = process.argv.slice(2).map(Number);
let count = 0;
const client = mqtt.connect('mqtt://127.0.0.1:' + port);
client.on('connect', () => client.subscribe('bench/#', { qos }, () => console.log('ready')));
client.on('message', () => { count++; });
process.stdin.on('data', () => console.log(count));
