"""Eclipse Paho's Python client over a broker that is killed and started again while it works.

usage: paho_restart.py HOST PORT 3.1.1|5

A publisher and a subscriber with lasting sessions, which reconnect by themselves. Prints "sent N" after every 50 messages of each
QoS, so that the caller knows when to kill, and "ok …" at the end if every message of QoS 2 came once, every message of QoS 1 came, and
all of them in order.
"""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_SECONDS = 60
COUNT = 200

host = sys.argv[1]
port = int(sys.argv[2])
is_v5 = sys.argv[3] == "5"


def lasting(name):
    """A client whose session outlives its connections, connected."""
    version = mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311
    options = {} if is_v5 else {"clean_session": False}
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version, **options)
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    client.max_inflight_messages_set(20)
    connected = queue.Queue()
    client.on_connect = lambda c, u, flags, code, props: connected.put(code)
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        client.connect(host, port, keepalive=5, clean_start=False, properties=properties)
    else:
        client.connect(host, port, keepalive=5)
    client.loop_start()
    code = connected.get(timeout=DEADLINE_SECONDS)
    assert not code.is_failure, code
    return client


received = queue.Queue()
subscribed = queue.Queue()
subscriber = lasting("restart-sub")
subscriber.on_message = lambda c, u, message: received.put((message.qos, int(message.payload)))
subscriber.on_subscribe = lambda c, u, mid, codes, props: subscribed.put(codes)
subscriber.subscribe("restart/#", 2)
subscribed.get(timeout=DEADLINE_SECONDS)
publisher = lasting("restart-pub")

for first in range(0, COUNT, 50):
    infos = [
        publisher.publish(f"restart/{qos}", str(number), qos=qos) for number in range(first, first + 50) for qos in (1, 2)
    ]
    print(f"sent {first + 50}", flush=True)
    for info in infos:
        info.wait_for_publish(DEADLINE_SECONDS)
        assert info.is_published(), "a message was never acknowledged"

got = {1: [], 2: []}
while len(got[2]) < COUNT or len(set(got[1])) < COUNT:
    qos, number = received.get(timeout=DEADLINE_SECONDS)
    got[qos].append(number)
assert got[2] == list(range(COUNT)), f"QoS 2: {got[2]}"
assert list(dict.fromkeys(got[1])) == list(range(COUNT)), f"QoS 1: {got[1]}"
for client in (subscriber, publisher):
    client.disconnect()
    client.loop_stop()
print(f"ok {COUNT} messages of each QoS, {len(got[1]) - COUNT} of QoS 1 repeated")
