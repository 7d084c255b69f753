"""A device of Homie 4, run by Homie4.

In: --port, --device; on standard input a word a line: data, sleep, close. Out: a line once it is ready. SIGKILL is a
crash.
"""

import argparse
import sys
import time

from homie.device_temperature import Device_Temperature

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--device", required=True)
options = parser.parse_args()

device = Device_Temperature(
    device_id=options.device,
    name=options.device,
    mqtt_settings={"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": options.port},
)
while device.state != "ready":
    time.sleep(0.05)
print("born", flush=True)
value = 20.0
for word in sys.stdin:
    value += 0.5
    match word.strip():
        case "data":
            device.update_temperature(value)
        case "sleep":
            device.state = "sleeping"
        case "close":
            device.close()
