"""The shadow clients of the AWS IoT Device SDK for Python against a host.

Both clients (V1: publish and subscribe; V2: requests and streams), over MQTT 3.1.1 and 5, for the
classic shadow and a named one, go the way of AWS's own samples: get, update desired, delta,
update reported, a stale version, delete.

Arguments: port, CA file, certificate, private key, thing name (which is the client id too).
Exit code 0: everything came back as it should.
"""

import queue
import sys
from concurrent.futures import Future

import awsiot
from awscrt import mqtt, mqtt5, mqtt_request_response
from awsiot import iotshadow, mqtt5_client_builder, mqtt_connection_builder

TIMEOUT_S = 10
SILENCE_S = 0.2
QOS = mqtt.QoS.AT_LEAST_ONCE

port, ca_file, certificate, private_key, thing = sys.argv[1:]
identity = dict(
    cert_filepath=certificate,
    pri_key_filepath=private_key,
    ca_filepath=ca_file,
    endpoint="localhost",
    port=int(port),
    client_id=thing,
)


def connect_311():
    connection = mqtt_connection_builder.mtls_from_path(**identity, clean_session=True)
    connection.connect().result(TIMEOUT_S)
    return connection, lambda: connection.disconnect().result(TIMEOUT_S)


def connect_5():
    connected, stopped = Future(), Future()
    client = mqtt5_client_builder.mtls_from_path(
        **identity,
        on_lifecycle_connection_success=connected.set_result,
        on_lifecycle_stopped=stopped.set_result,
    )
    client.start()
    connected.result(TIMEOUT_S)

    def stop():
        client.stop()
        stopped.result(TIMEOUT_S)

    return client, stop


class Names:
    """Methods and requests for the classic shadow, or for a named one."""

    def __init__(self, shadow):
        self.named = "named_" if shadow else ""
        self.arguments = dict(thing_name=thing, **({"shadow_name": shadow} if shadow else {}))

    def request(self, kind, **arguments):
        """An instance of `kind`, which has `{}` where a named one has `Named`."""
        kind = getattr(iotshadow, kind.format("Named" if self.named else ""))
        return kind(**self.arguments, **arguments)

    def method(self, client, name):
        return getattr(client, name.format(self.named))


class V1:
    def __init__(self, connection, names):
        self.client, self.names = iotshadow.IotShadowClient(connection), names
        self.answers, self.events, self.deltas = queue.Queue(), queue.Queue(), queue.Queue()
        self.token = 0
        for operation in ("get", "update", "delete"):
            for answer in ("accepted", "rejected"):
                method = f"subscribe_to_{operation}_{{}}shadow_{answer}"
                kind = f"{operation.capitalize()}{{}}ShadowSubscriptionRequest"
                self.subscribe(method, kind, self.answers)
        self.subscribe(
            "subscribe_to_{}shadow_updated_events",
            "{}ShadowUpdatedSubscriptionRequest",
            self.events,
        )
        self.subscribe(
            "subscribe_to_{}shadow_delta_updated_events",
            "{}ShadowDeltaUpdatedSubscriptionRequest",
            self.deltas,
        )

    def subscribe(self, method, kind, received):
        method = self.names.method(self.client, method)
        subscribed, _ = method(self.names.request(kind), QOS, received.put)
        subscribed.result(TIMEOUT_S)

    def ask(self, operation, **arguments):
        """The answer, accepted or rejected."""
        self.token += 1
        token = f"{operation}-{self.token}"
        kind = f"{operation.capitalize()}{{}}ShadowRequest"
        request = self.names.request(kind, client_token=token, **arguments)
        publish = self.names.method(self.client, f"publish_{operation}_{{}}shadow")
        publish(request, QOS).result(TIMEOUT_S)
        answer = self.answers.get(timeout=TIMEOUT_S)
        assert answer.client_token == token, (answer, token)
        return answer

    def close(self):
        pass


class V2:
    def __init__(self, connection, names):
        options = mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=4,
            max_streaming_subscriptions=2,
            operation_timeout_in_seconds=TIMEOUT_S,
        )
        self.client, self.names = iotshadow.IotShadowClientV2(connection, options), names
        self.events, self.deltas = queue.Queue(), queue.Queue()
        self.streams = [
            self.open("create_{}shadow_updated_stream", "{}ShadowUpdated", self.events),
            self.open("create_{}shadow_delta_updated_stream", "{}ShadowDeltaUpdated", self.deltas),
        ]

    def open(self, method, kind, received):
        is_open = Future()

        def on_status(event):
            kinds = mqtt_request_response.SubscriptionStatusEventType
            if event.type == kinds.SUBSCRIPTION_ESTABLISHED:
                is_open.set_result(None)

        options = awsiot.ServiceStreamOptions(
            incoming_event_listener=received.put,
            subscription_status_listener=on_status,
            deserialization_failure_listener=received.put,
        )
        request = self.names.request(f"{kind}SubscriptionRequest")
        stream = self.names.method(self.client, method)(request, options)
        stream.open()
        is_open.result(TIMEOUT_S)
        return stream

    def ask(self, operation, **arguments):
        request = self.names.request(f"{operation.capitalize()}{{}}ShadowRequest", **arguments)
        ask = self.names.method(self.client, f"{operation}_{{}}shadow")
        try:
            return ask(request).result(TIMEOUT_S)
        except awsiot.V2ServiceException as error:
            assert isinstance(error.modeled_error, iotshadow.V2ErrorResponse), error
            return error.modeled_error

    def close(self):
        # The client and its streams end with their last references.
        self.streams.clear()
        self.client = None


def expect_nothing(received):
    try:
        raise AssertionError(received.get(timeout=SILENCE_S))
    except queue.Empty:
        pass


def go_the_way_of_the_samples(client, name, version):
    """Returns the version of the shadow that it leaves deleted."""
    missing = client.ask("get")
    assert missing.code == 404, missing
    assert missing.message == f"No shadow exists with name: '{name}'", missing
    assert missing.timestamp, missing

    state = iotshadow.ShadowState(desired={"color": "green", "on": {"left": True}})
    updated = client.ask("update", state=state)
    # A shadow that was deleted just now goes on where it was.
    assert updated.version == version + 1, updated
    assert updated.state.desired == state.desired and updated.state.reported is None, updated
    assert set(updated.metadata.desired["color"]) == {"timestamp"}, updated
    event = client.events.get(timeout=TIMEOUT_S)
    assert event.current.state.desired == state.desired, event
    assert event.current.version == version + 1 and not event.previous.state.desired, event
    delta = client.deltas.get(timeout=TIMEOUT_S)
    assert delta.state == state.desired and delta.version == version + 1, delta
    assert set(delta.metadata) == set(state.desired), delta

    got = client.ask("get")
    assert got.state.delta == state.desired and got.version == version + 1, got

    # What the device did is reported, with the version that it saw.
    state = iotshadow.ShadowState(reported={"color": "green"})
    updated = client.ask("update", state=state, version=delta.version)
    assert updated.version == version + 2 and updated.state.reported == state.reported, updated
    event = client.events.get(timeout=TIMEOUT_S)
    assert event.previous.state.reported is None, event
    assert event.current.state.reported == state.reported, event
    delta = client.deltas.get(timeout=TIMEOUT_S)
    assert delta.state == {"on": {"left": True}}, delta

    stale = client.ask("update", state=state, version=version + 1)
    assert (stale.code, stale.message) == (409, "Version conflict"), stale
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}
    rejected = client.ask("update", state=iotshadow.ShadowState(reported=deep))
    assert rejected.code == 400, rejected
    rejected = client.ask("update", state=iotshadow.ShadowState(reported={"a": "x" * 8_192}))
    assert rejected.code == 413, rejected

    state = iotshadow.ShadowState(reported={"on": {"left": True}})
    updated = client.ask("update", state=state)
    assert updated.version == version + 3, updated
    assert client.events.get(timeout=TIMEOUT_S).current.version == version + 3
    expect_nothing(client.deltas)

    # Cleared as AWS's samples do it: both sections null.
    state = iotshadow.ShadowState(desired_is_nullable=True, reported_is_nullable=True)
    updated = client.ask("update", state=state)
    assert updated.state.desired is None and updated.state.reported is None, updated
    assert client.events.get(timeout=TIMEOUT_S).previous.state.reported["color"] == "green"
    got = client.ask("get")
    assert not got.state.desired and not got.state.reported and not got.state.delta, got

    deleted = client.ask("delete")
    assert deleted.version == version + 4, deleted
    assert client.ask("delete").code == 404
    expect_nothing(client.events)
    return deleted.version


for shadow in (None, "lights"):
    version = 0
    for connect in (connect_311, connect_5):
        for kind in (V1, V2):
            connection, stop = connect()
            client = kind(connection, Names(shadow))
            version = go_the_way_of_the_samples(client, shadow or thing, version)
            client.close()
            stop()
