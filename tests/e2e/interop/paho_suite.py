"""Eclipse Paho's Python client against a broker, in one protocol version.

usage: paho_suite.py HOST PORT 3.1|3.1.1|5

Prints one line for each case, "ok NAME" or "FAILED NAME: why", and exits with 1 if one failed. Waits for named events with
a deadline, never for time to pass.
"""

import queue
import sys
import traceback

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE_SECONDS = 20
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}

host = sys.argv[1]
port = int(sys.argv[2])
version = VERSIONS[sys.argv[3]]
is_v5 = version == mqtt.MQTTv5
# Names are unique to a run, so that a broker can be asked more than once.
run = f"paho{sys.argv[3].replace('.', '')}"


def properties(packet, **values):
    """Properties for a packet; None for versions without them."""
    if not is_v5:
        return None
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Peer:
    """A Paho client whose callbacks fill queues that the cases read with a deadline."""

    def __init__(self, name, clean=True, will=None, connect=None):
        self.name = name
        self.clean = clean
        self.connect_properties = connect
        self.connected = queue.Queue()
        self.disconnected = queue.Queue()
        self.subscribed = queue.Queue()
        self.unsubscribed = queue.Queue()
        self.published = queue.Queue()
        self.messages = queue.Queue()
        options = {} if is_v5 else {"clean_session": clean}
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=version, reconnect_on_failure=False, **options
        )
        self.client.on_connect = lambda c, u, flags, code, props: self.connected.put((flags, code, props))
        self.client.on_disconnect = lambda c, u, flags, code, props: self.disconnected.put(code)
        self.client.on_subscribe = lambda c, u, mid, codes, props: self.subscribed.put(codes)
        self.client.on_unsubscribe = lambda c, u, mid, codes, props: self.unsubscribed.put(codes)
        self.client.on_publish = lambda c, u, mid, code, props: self.published.put((mid, code))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        if will is not None:
            self.client.will_set(**will)

    def start(self):
        """Connects and returns (flags, code, properties) of CONNACK."""
        options = {}
        if is_v5:
            options = {"clean_start": self.clean, "properties": self.connect_properties}
        self.client.connect(host, port, keepalive=30, **options)
        self.client.loop_start()
        answer = self.connected.get(timeout=DEADLINE_SECONDS)
        assert not answer[1].is_failure, f"CONNECT was refused: {answer[1]}"
        return answer

    def subscribe(self, topic, qos=0, options=None, props=None):
        """Subscribes and returns the codes of SUBACK."""
        if options is not None:
            self.client.subscribe(topic, options=options, properties=props)
        elif props is not None:
            self.client.subscribe(topic, options=SubscribeOptions(qos=qos), properties=props)
        else:
            self.client.subscribe(topic, qos)
        return self.subscribed.get(timeout=DEADLINE_SECONDS)

    def unsubscribe(self, topic):
        """Unsubscribes and waits for UNSUBACK."""
        self.client.unsubscribe(topic)
        return self.unsubscribed.get(timeout=DEADLINE_SECONDS)

    def publish(self, topic, payload, qos=0, retain=False, props=None):
        """Publishes and waits until the exchange of its QoS is complete; returns the code."""
        info = self.client.publish(topic, payload, qos=qos, retain=retain, properties=props)
        while True:
            mid, code = self.published.get(timeout=DEADLINE_SECONDS)
            if mid == info.mid:
                return code

    def message(self):
        """The next message."""
        return self.messages.get(timeout=DEADLINE_SECONDS)

    def stop(self):
        """Says DISCONNECT and ends the thread."""
        self.client.disconnect()
        self.disconnected.get(timeout=DEADLINE_SECONDS)
        self.client.loop_stop()

    def cut(self):
        """Ends the connection without a word, as a broken network would."""
        self.client.loop_stop()
        sock = self.client.socket()
        sock.close()


def case_every_qos():
    subscriber, publisher = Peer(f"{run}-q-sub"), Peer(f"{run}-q-pub")
    subscriber.start()
    publisher.start()
    codes = subscriber.subscribe(f"{run}/q/#", 2)
    assert [code.value for code in codes] == [2], codes
    for qos in (0, 1, 2):
        publisher.publish(f"{run}/q/{qos}", f"hello {qos}", qos)
        message = subscriber.message()
        assert (message.topic, message.payload, message.qos) == (
            f"{run}/q/{qos}",
            f"hello {qos}".encode(),
            qos,
        ), (message.topic, message.payload, message.qos)
        assert not message.retain
    subscriber.stop()
    publisher.stop()


def case_granted_qos_is_the_smaller():
    subscriber, publisher = Peer(f"{run}-g-sub"), Peer(f"{run}-g-pub")
    subscriber.start()
    publisher.start()
    for granted in (0, 1, 2):
        subscriber.subscribe(f"{run}/g/{granted}", granted)
        for qos in (0, 1, 2):
            publisher.publish(f"{run}/g/{granted}", b"x", qos)
            assert subscriber.message().qos == min(qos, granted)
    subscriber.stop()
    publisher.stop()


def case_many_in_order():
    subscriber, publisher = Peer(f"{run}-m-sub"), Peer(f"{run}-m-pub")
    subscriber.start()
    publisher.start()
    subscriber.subscribe(f"{run}/m", 2)
    count = 300
    for qos in (1, 2):
        infos = [publisher.client.publish(f"{run}/m", str(number), qos=qos) for number in range(count)]
        for info in infos:
            info.wait_for_publish(DEADLINE_SECONDS)
            assert info.is_published()
        got = [int(subscriber.message().payload) for _ in range(count)]
        assert got == list(range(count)), f"QoS {qos}: order or count is wrong"
    subscriber.stop()
    publisher.stop()


def case_retained():
    publisher = Peer(f"{run}-r-pub")
    publisher.start()
    publisher.publish(f"{run}/r/a", "kept", 1, retain=True)
    subscriber = Peer(f"{run}-r-sub")
    subscriber.start()
    subscriber.subscribe(f"{run}/r/+", 1)
    message = subscriber.message()
    assert message.retain and message.payload == b"kept"
    publisher.publish(f"{run}/r/a", b"", 1, retain=True)
    assert subscriber.message().payload == b""
    late = Peer(f"{run}-r-late")
    late.start()
    late.subscribe(f"{run}/r/+", 1)
    publisher.publish(f"{run}/r/b", "marker", 1)
    assert late.message().payload == b"marker", "a removed retained message was sent"
    for peer in (publisher, subscriber, late):
        peer.stop()


def case_will():
    watcher = Peer(f"{run}-w-watch")
    watcher.start()
    watcher.subscribe(f"{run}/w/#", 1)
    dying = Peer(f"{run}-w-dying", will={"topic": f"{run}/w/cut", "payload": "gone", "qos": 1, "retain": False})
    dying.start()
    dying.cut()
    message = watcher.message()
    assert (message.topic, message.payload) == (f"{run}/w/cut", b"gone")
    polite = Peer(f"{run}-w-polite", will={"topic": f"{run}/w/polite", "payload": "no", "qos": 1, "retain": False})
    polite.start()
    polite.stop()
    other = Peer(f"{run}-w-other")
    other.start()
    other.publish(f"{run}/w/marker", "marker", 1)
    assert watcher.message().topic == f"{run}/w/marker", "a will was published after DISCONNECT"
    watcher.stop()
    other.stop()


def case_session_survives():
    connect = properties(PacketTypes.CONNECT, SessionExpiryInterval=600)
    sleeper = Peer(f"{run}-s-sub", clean=False, connect=connect)
    flags, _, _ = sleeper.start()
    assert not flags.session_present
    sleeper.subscribe(f"{run}/s", 1)
    sleeper.stop()
    publisher = Peer(f"{run}-s-pub")
    publisher.start()
    for number in range(10):
        publisher.publish(f"{run}/s", str(number), 1)
    back = Peer(f"{run}-s-sub", clean=False, connect=connect)
    flags, _, _ = back.start()
    # 3.1 has no Session Present.
    assert flags.session_present or version == mqtt.MQTTv31
    assert [int(back.message().payload) for _ in range(10)] == list(range(10))
    back.stop()
    fresh = Peer(f"{run}-s-sub", clean=True)
    flags, _, _ = fresh.start()
    assert not flags.session_present
    fresh.stop()
    publisher.stop()


def case_unsubscribe():
    subscriber, publisher = Peer(f"{run}-u-sub"), Peer(f"{run}-u-pub")
    subscriber.start()
    publisher.start()
    subscriber.subscribe([(f"{run}/u/a", 1), (f"{run}/u/b", 1)] if not is_v5 else
                         [(f"{run}/u/a", SubscribeOptions(qos=1)), (f"{run}/u/b", SubscribeOptions(qos=1))])
    subscriber.unsubscribe(f"{run}/u/a")
    publisher.publish(f"{run}/u/a", "no", 1)
    publisher.publish(f"{run}/u/b", "yes", 1)
    assert subscriber.message().payload == b"yes"
    subscriber.stop()
    publisher.stop()


def case_takeover():
    first = Peer(f"{run}-t")
    first.start()
    second = Peer(f"{run}-t")
    second.start()
    # Paho drops the code of a short DISCONNECT, so only the end itself is looked at.
    first.disconnected.get(timeout=DEADLINE_SECONDS)
    first.client.loop_stop()
    second.stop()


def case_large_payload():
    subscriber, publisher = Peer(f"{run}-l-sub"), Peer(f"{run}-l-pub")
    subscriber.start()
    publisher.start()
    subscriber.subscribe(f"{run}/l", 2)
    payload = bytes(range(256)) * 2048
    for qos in (0, 1, 2):
        publisher.publish(f"{run}/l", payload, qos)
        assert subscriber.message().payload == payload
    subscriber.stop()
    publisher.stop()


def case_assigned_client_id():
    if version == mqtt.MQTTv31:
        return
    peer = Peer("")
    _, _, props = peer.start()
    if is_v5:
        assert props.AssignedClientIdentifier
    peer.stop()


def case_v5_properties_travel():
    subscriber, publisher = Peer(f"{run}-p-sub"), Peer(f"{run}-p-pub")
    subscriber.start()
    publisher.start()
    subscriber.subscribe(
        f"{run}/p", 1, props=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=7)
    )
    sent = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        MessageExpiryInterval=100,
        ContentType="text/plain",
        ResponseTopic=f"{run}/p/answer",
        CorrelationData=b"\x00\x01",
    )
    sent.UserProperty = [("b", "1"), ("a", "2"), ("b", "3")]
    publisher.publish(f"{run}/p", "x", 1, props=sent)
    got = subscriber.message().properties
    assert got.UserProperty == [("b", "1"), ("a", "2"), ("b", "3")]
    assert got.ContentType == "text/plain" and got.PayloadFormatIndicator == 1
    assert got.ResponseTopic == f"{run}/p/answer" and got.CorrelationData == b"\x00\x01"
    assert got.SubscriptionIdentifier == [7] and got.MessageExpiryInterval <= 100
    subscriber.stop()
    publisher.stop()


def case_v5_subscription_options():
    one, other = Peer(f"{run}-o-one"), Peer(f"{run}-o-other")
    one.start()
    other.start()
    one.subscribe(f"{run}/o", options=SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True))
    one.publish(f"{run}/o", "own", 1)
    other.publish(f"{run}/o", "kept", 1, retain=True)
    message = one.message()
    assert message.payload == b"kept" and message.retain, "No Local or Retain As Published is not respected"
    one.subscribe(f"{run}/o", options=SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND))
    other.publish(f"{run}/o", "marker", 1)
    assert one.message().payload == b"marker", "Retain Handling 2 sent a retained message"
    other.publish(f"{run}/o", b"", 1, retain=True)
    one.stop()
    other.stop()


def case_v5_shared_subscription():
    members = [Peer(f"{run}-h-{number}") for number in range(3)]
    for member in members:
        member.start()
        member.subscribe(f"$share/{run}/{run}/h", 1)
    publisher = Peer(f"{run}-h-pub")
    publisher.start()
    count = 60
    for number in range(count):
        publisher.publish(f"{run}/h", str(number), 1)
    publisher.publish(f"{run}/h-end", "end", 1, retain=True)
    got = []
    for member in members:
        # What is on its way to a member comes before the retained end mark that the member asks for now.
        member.subscribe(f"{run}/h-end", 1)
        while (message := member.message()).topic != f"{run}/h-end":
            got.append(int(message.payload))
    assert sorted(got) == list(range(count)), f"{len(got)} of {count} arrived"
    for peer in members + [publisher]:
        peer.stop()


def case_v5_limits_in_connack():
    peer = Peer(f"{run}-c", connect=properties(PacketTypes.CONNECT, SessionExpiryInterval=5, ReceiveMaximum=3))
    _, _, props = peer.start()
    known = set(vars(props))
    assert known, "CONNACK without properties"
    assert getattr(props, "MaximumPacketSize", 1) > 0
    peer.stop()


def case_v5_reason_without_subscription():
    peer = Peer(f"{run}-n")
    peer.start()
    codes = peer.unsubscribe(f"{run}/never")
    values = [code.value for code in codes] if isinstance(codes, list) else [codes.value]
    assert values == [0x11], values
    peer.stop()


def main():
    cases = [(name, case) for name, case in globals().items() if name.startswith("case_")]
    failed = 0
    for name, case in cases:
        if name.startswith("case_v5") and not is_v5:
            continue
        try:
            case()
            print(f"ok {name}", flush=True)
        except Exception as error:  # the report of a case is the point of catching all
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED {name}: {type(error).__name__} {error} ({where.name}, line {where.lineno})", flush=True)
    sys.exit(1 if failed else 0)


main()
