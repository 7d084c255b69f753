#!/usr/bin/env node
// Follows all devices of a monitoring broker, and goes on where it was when the connection breaks.
// Usage: watch.mjs [BASE_URL]
const base = (process.argv[2] ?? "http://127.0.0.1:8080").replace(/\/$/, "");
let lastId;

/** Splits a body into Server-Sent Events. */
async function* events(body) {
  let rest = "";
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    rest += chunk;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        const value = line.slice(colon + 1).trimStart();
        if (line.startsWith("data:")) {
          event.data += event.data ? `\n${value}` : value;
        } else if (colon > 0) {
          event[line.slice(0, colon)] = value;
        }
      }
      if (event.data) {
        yield event;
      }
    }
  }
}

function print({ event, data }) {
  const body = JSON.parse(data);
  if (event === "message") {
    console.log(`${body.received_at} ${body.device_id} ${body.topic} ${JSON.stringify(body.payload)}`);
  } else {
    console.log(`${event}: ${data}`);
  }
}

for (;;) {
  try {
    const headers = lastId ? { "last-event-id": lastId } : {};
    const answer = await fetch(`${base}/v1/stream`, { headers });
    if (!answer.ok) {
      throw new Error(`${answer.status} ${await answer.text()}`);
    }
    for await (const event of events(answer.body)) {
      lastId = event.id ?? lastId;
      print(event);
    }
  } catch (error) {
    console.error(`lost the stream (${error.message}), trying again`);
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
