"""An Edge Node with one device, run by pysparkplug.

In: --port, --group, --node, --device; on standard input a word a line: data (of both), birth and death (of the
device). Out: a line once it is connected, which publishes its births. SIGKILL is a crash.
"""

import argparse
import sys

import pysparkplug as psp

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--group", required=True)
parser.add_argument("--node", required=True)
parser.add_argument("--device", required=True)
options = parser.parse_args()


def metric(name: str, value: float) -> psp.Metric:
    return psp.Metric(
        timestamp=psp.get_current_timestamp(), name=name, datatype=psp.DataType.DOUBLE, value=value
    )


value = 20.0
node = psp.EdgeNode(options.group, options.node, [metric("uptime", value)])
node.register(psp.Device(options.device, [metric("pressure", value)]))
node.connect("127.0.0.1", port=options.port, keepalive=15, blocking=False)
print("born", flush=True)
for word in sys.stdin:
    value += 1
    match word.strip():
        case "data":
            node.update([metric("uptime", value)])
            node.update_device(options.device, [metric("pressure", value)])
        case "birth":
            node.register(psp.Device(options.device, [metric("pressure", value)]))
        case "death":
            node.deregister(options.device)
