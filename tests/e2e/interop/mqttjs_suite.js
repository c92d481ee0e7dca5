// MQTT.js against a broker, in one protocol version.
//
// usage: NODE_PATH=…/node_modules node mqttjs_suite.js HOST PORT 3.1|3.1.1|5
//
// Prints one line for each case, "ok NAME" or "FAILED NAME: why", and exits with 1 if one failed. Waits for named events with
// a deadline, never for time to pass.

'use strict';

const assert = require('node:assert/strict');
const mqtt = require('mqtt');

const DEADLINE_MS = 20000;
const [host, port, versionName] = process.argv.slice(2);
const version = { 3.1: 3, '3.1.1': 4, 5: 5 }[versionName];
const isV5 = version === 5;
const run = `js${versionName.replaceAll('.', '')}`;

// A promise that fails when the deadline passes.
function within(promise, what) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A client whose messages are read one by one.
class Peer {
  constructor(name, options = {}) {
    this.waiting = [];
    this.readers = [];
    this.client = mqtt.connect({
      host,
      port: Number(port),
      protocol: 'mqtt',
      protocolVersion: version,
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      clientId: name,
      clean: true,
      reconnectPeriod: 0,
      ...options,
    });
    this.client.on('error', () => {});
    this.client.on('message', (topic, payload, packet) => {
      const reader = this.readers.shift();
      if (reader) reader({ topic, payload, packet });
      else this.waiting.push({ topic, payload, packet });
    });
  }

  event(name) {
    return within(new Promise((resolve) => this.client.once(name, resolve)), name);
  }

  static async start(name, options) {
    const peer = new Peer(name, options);
    peer.connack = await peer.event('connect');
    return peer;
  }

  message() {
    if (this.waiting.length > 0) return Promise.resolve(this.waiting.shift());
    return within(new Promise((resolve) => this.readers.push(resolve)), 'message');
  }

  subscribe(topic, options = { qos: 0 }) {
    return within(this.client.subscribeAsync(topic, options), 'SUBACK');
  }

  unsubscribe(topic) {
    return within(this.client.unsubscribeAsync(topic), 'UNSUBACK');
  }

  publish(topic, payload, options = { qos: 0 }) {
    return within(this.client.publishAsync(topic, payload, options), 'end of PUBLISH');
  }

  stop() {
    return within(this.client.endAsync(), 'end');
  }

  // Ends the connection without a word, as a broken network would.
  cut() {
    this.client.stream.destroy();
  }
}

const cases = {
  async every_qos() {
    const subscriber = await Peer.start(`${run}-q-sub`);
    const publisher = await Peer.start(`${run}-q-pub`);
    const granted = await subscriber.subscribe(`${run}/q/#`, { qos: 2 });
    assert.equal(granted[0].qos, 2);
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`${run}/q/${qos}`, `hello ${qos}`, { qos });
      const { topic, payload, packet } = await subscriber.message();
      assert.equal(topic, `${run}/q/${qos}`);
      assert.equal(payload.toString(), `hello ${qos}`);
      assert.equal(packet.qos, qos);
      assert.equal(packet.retain, false);
    }
    await subscriber.stop();
    await publisher.stop();
  },

  async many_in_order() {
    const subscriber = await Peer.start(`${run}-m-sub`);
    const publisher = await Peer.start(`${run}-m-pub`);
    await subscriber.subscribe(`${run}/m`, { qos: 2 });
    const count = 300;
    const window = 15; // MQTT.js sends on whatever the Receive Maximum says
    for (const qos of [1, 2]) {
      for (let first = 0; first < count; first += window) {
        const numbers = Array.from({ length: window }, (_, index) => first + index);
        await Promise.all(numbers.map((number) => publisher.publish(`${run}/m`, String(number), { qos })));
      }
      for (let number = 0; number < count; number += 1) {
        assert.equal((await subscriber.message()).payload.toString(), String(number));
      }
    }
    await subscriber.stop();
    await publisher.stop();
  },

  async retained() {
    const publisher = await Peer.start(`${run}-r-pub`);
    await publisher.publish(`${run}/r/a`, 'kept', { qos: 1, retain: true });
    const subscriber = await Peer.start(`${run}-r-sub`);
    await subscriber.subscribe(`${run}/r/+`, { qos: 1 });
    const kept = await subscriber.message();
    assert.equal(kept.packet.retain, true);
    assert.equal(kept.payload.toString(), 'kept');
    await publisher.publish(`${run}/r/a`, '', { qos: 1, retain: true });
    assert.equal((await subscriber.message()).payload.length, 0);
    const late = await Peer.start(`${run}-r-late`);
    await late.subscribe(`${run}/r/+`, { qos: 1 });
    await publisher.publish(`${run}/r/b`, 'marker', { qos: 1 });
    assert.equal((await late.message()).payload.toString(), 'marker');
    for (const peer of [publisher, subscriber, late]) await peer.stop();
  },

  async will() {
    const watcher = await Peer.start(`${run}-w-watch`);
    await watcher.subscribe(`${run}/w/#`, { qos: 1 });
    const will = { topic: `${run}/w/cut`, payload: Buffer.from('gone'), qos: 1, retain: false };
    const dying = await Peer.start(`${run}-w-dying`, { will });
    dying.cut();
    assert.equal((await watcher.message()).payload.toString(), 'gone');
    const polite = await Peer.start(`${run}-w-polite`, { will: { ...will, topic: `${run}/w/polite` } });
    await polite.stop();
    const other = await Peer.start(`${run}-w-other`);
    await other.publish(`${run}/w/marker`, 'marker', { qos: 1 });
    assert.equal((await watcher.message()).topic, `${run}/w/marker`);
    await watcher.stop();
    await other.stop();
  },

  async session_survives() {
    const options = { clean: false, properties: isV5 ? { sessionExpiryInterval: 600 } : undefined };
    const sleeper = await Peer.start(`${run}-s-sub`, options);
    assert.equal(Boolean(sleeper.connack.sessionPresent), false);
    await sleeper.subscribe(`${run}/s`, { qos: 1 });
    await sleeper.stop();
    const publisher = await Peer.start(`${run}-s-pub`);
    for (let number = 0; number < 10; number += 1) await publisher.publish(`${run}/s`, String(number), { qos: 1 });
    const back = await Peer.start(`${run}-s-sub`, options);
    if (version !== 3) assert.equal(back.connack.sessionPresent, true);
    for (let number = 0; number < 10; number += 1) {
      assert.equal((await back.message()).payload.toString(), String(number));
    }
    await back.stop();
    const fresh = await Peer.start(`${run}-s-sub`);
    assert.equal(Boolean(fresh.connack.sessionPresent), false);
    await fresh.stop();
    await publisher.stop();
  },

  async unsubscribe() {
    const subscriber = await Peer.start(`${run}-u-sub`);
    const publisher = await Peer.start(`${run}-u-pub`);
    await subscriber.subscribe([`${run}/u/a`, `${run}/u/b`], { qos: 1 });
    await subscriber.unsubscribe(`${run}/u/a`);
    await publisher.publish(`${run}/u/a`, 'no', { qos: 1 });
    await publisher.publish(`${run}/u/b`, 'yes', { qos: 1 });
    assert.equal((await subscriber.message()).payload.toString(), 'yes');
    await subscriber.stop();
    await publisher.stop();
  },

  async takeover() {
    const first = await Peer.start(`${run}-t`);
    const closed = first.event('close');
    const second = await Peer.start(`${run}-t`);
    await closed;
    await second.stop();
    first.client.end(true);
  },

  async large_payload() {
    const subscriber = await Peer.start(`${run}-l-sub`);
    const publisher = await Peer.start(`${run}-l-pub`);
    await subscriber.subscribe(`${run}/l`, { qos: 2 });
    const payload = Buffer.alloc(512 * 1024, 'dunlin');
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`${run}/l`, payload, { qos });
      assert.ok((await subscriber.message()).payload.equals(payload));
    }
    await subscriber.stop();
    await publisher.stop();
  },

  async v5_properties_travel() {
    const subscriber = await Peer.start(`${run}-p-sub`);
    const publisher = await Peer.start(`${run}-p-pub`);
    await subscriber.subscribe(`${run}/p`, { qos: 1, properties: { subscriptionIdentifier: 7 } });
    const properties = {
      payloadFormatIndicator: true,
      messageExpiryInterval: 100,
      contentType: 'text/plain',
      responseTopic: `${run}/p/answer`,
      correlationData: Buffer.from([0, 1]),
      userProperties: { one: ['1', '3'], two: '2' },
    };
    await publisher.publish(`${run}/p`, 'x', { qos: 1, properties });
    const got = (await subscriber.message()).packet.properties;
    assert.deepEqual({ ...got.userProperties }, { one: ['1', '3'], two: '2' });
    assert.equal(got.contentType, 'text/plain');
    assert.equal(got.payloadFormatIndicator, true);
    assert.equal(got.responseTopic, `${run}/p/answer`);
    assert.ok(got.correlationData.equals(Buffer.from([0, 1])));
    assert.equal(got.subscriptionIdentifier, 7);
    assert.ok(got.messageExpiryInterval <= 100);
    await subscriber.stop();
    await publisher.stop();
  },

  async v5_topic_alias_both_ways() {
    const subscriber = await Peer.start(`${run}-a-sub`, { properties: { topicAliasMaximum: 5 } });
    const publisher = await Peer.start(`${run}-a-pub`);
    await subscriber.subscribe(`${run}/a`, { qos: 1 });
    await publisher.publish(`${run}/a`, '0', { qos: 1, properties: { topicAlias: 1 } });
    for (let number = 1; number < 5; number += 1) {
      await publisher.publish('', String(number), { qos: 1, properties: { topicAlias: 1 } });
    }
    for (let number = 0; number < 5; number += 1) {
      const { topic, payload } = await subscriber.message();
      assert.equal(topic, `${run}/a`);
      assert.equal(payload.toString(), String(number));
    }
    await subscriber.stop();
    await publisher.stop();
  },

  async v5_subscription_options() {
    const one = await Peer.start(`${run}-o-one`);
    const other = await Peer.start(`${run}-o-other`);
    await one.subscribe(`${run}/o`, { qos: 1, nl: true, rap: true });
    await one.publish(`${run}/o`, 'own', { qos: 1 });
    await other.publish(`${run}/o`, 'kept', { qos: 1, retain: true });
    const { payload, packet } = await one.message();
    assert.equal(payload.toString(), 'kept');
    assert.equal(packet.retain, true);
    await other.publish(`${run}/o`, '', { qos: 1, retain: true });
    await one.stop();
    await other.stop();
  },

  async v5_takeover_tells_why() {
    const first = await Peer.start(`${run}-t5`);
    const told = first.event('disconnect');
    const second = await Peer.start(`${run}-t5`);
    assert.equal((await told).reasonCode, 0x8e);
    await second.stop();
    first.client.end(true);
  },
};

async function main() {
  let failed = 0;
  for (const [name, run] of Object.entries(cases)) {
    if (name.startsWith('v5_') && !isV5) continue;
    try {
      await run();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.stack.split('\n').slice(0, 4).join(' | ')}`);
    }
  }
  process.exit(failed === 0 ? 0 : 1);
}

main();
