"""The AWS IoT Device SDK for Python against a host: MQTT 5, then 3.1.1 with the shadow client.

Arguments: port, CA file, certificate, private key, thing name (which is the client id too).
Exit code 0: everything came back as it should.
"""

import json
import queue
import sys
from concurrent.futures import Future

from awscrt import mqtt, mqtt5
from awsiot import iotshadow, mqtt5_client_builder, mqtt_connection_builder

TIMEOUT_S = 10
TOPIC = "sensor/temp"

port, ca_file, certificate, private_key, thing = sys.argv[1:]
identity = dict(
    cert_filepath=certificate,
    pri_key_filepath=private_key,
    ca_filepath=ca_file,
    endpoint="localhost",
    port=int(port),
    client_id=thing,
)


def publish_and_receive_with_mqtt5():
    connected, stopped, received = Future(), Future(), queue.Queue()
    client = mqtt5_client_builder.mtls_from_path(
        **identity,
        on_publish_received=lambda data: received.put(data.publish_packet),
        on_lifecycle_connection_success=connected.set_result,
        on_lifecycle_stopped=stopped.set_result,
    )
    client.start()
    connected.result(TIMEOUT_S)
    subscription = mqtt5.Subscription(topic_filter=TOPIC, qos=mqtt5.QoS.AT_LEAST_ONCE)
    subscribed = client.subscribe(mqtt5.SubscribePacket(subscriptions=[subscription]))
    codes = subscribed.result(TIMEOUT_S).reason_codes
    assert codes == [mqtt5.SubackReasonCode.GRANTED_QOS_1], codes
    sent = mqtt5.PublishPacket(
        topic=TOPIC,
        payload=json.dumps({"temp": 31.5}),
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        content_type="application/json",
        correlation_data="7",
        response_topic="sensor/answers",
        user_properties=[mqtt5.UserProperty(name="unit", value="celsius")],
    )
    puback = client.publish(sent).result(TIMEOUT_S).puback
    assert puback.reason_code == mqtt5.PubackReasonCode.SUCCESS, puback
    message = received.get(timeout=TIMEOUT_S)
    assert message.topic == TOPIC and json.loads(message.payload) == {"temp": 31.5}, message
    for field in ("content_type", "correlation_data", "response_topic", "user_properties"):
        assert getattr(message, field) == getattr(sent, field), (field, message)
    client.stop()
    stopped.result(TIMEOUT_S)


def publish_and_use_the_shadow_with_mqtt_311():
    connection = mqtt_connection_builder.mtls_from_path(**identity, clean_session=True)
    connection.connect().result(TIMEOUT_S)
    received = queue.Queue()
    subscribed, _ = connection.subscribe(
        TOPIC, mqtt.QoS.AT_LEAST_ONCE, lambda topic, payload, **_: received.put((topic, payload))
    )
    assert subscribed.result(TIMEOUT_S)["qos"] == mqtt.QoS.AT_LEAST_ONCE
    published, _ = connection.publish(TOPIC, '{"temp": 32.5}', mqtt.QoS.AT_LEAST_ONCE)
    published.result(TIMEOUT_S)
    topic, payload = received.get(timeout=TIMEOUT_S)
    assert topic == TOPIC and json.loads(payload) == {"temp": 32.5}, (topic, payload)

    shadow = iotshadow.IotShadowClient(connection)
    answers = queue.Queue()
    at_least_once = mqtt.QoS.AT_LEAST_ONCE
    for subscribe, request in (
        (shadow.subscribe_to_update_shadow_accepted, iotshadow.UpdateShadowSubscriptionRequest),
        (shadow.subscribe_to_update_shadow_rejected, iotshadow.UpdateShadowSubscriptionRequest),
        (shadow.subscribe_to_get_shadow_accepted, iotshadow.GetShadowSubscriptionRequest),
        (shadow.subscribe_to_get_shadow_rejected, iotshadow.GetShadowSubscriptionRequest),
    ):
        subscribed, _ = subscribe(request(thing_name=thing), at_least_once, answers.put)
        subscribed.result(TIMEOUT_S)
    state = iotshadow.ShadowState(reported={"temp": 32.5})
    update = iotshadow.UpdateShadowRequest(thing_name=thing, state=state, client_token="update-1")
    shadow.publish_update_shadow(update, at_least_once).result(TIMEOUT_S)
    updated = answers.get(timeout=TIMEOUT_S)
    assert isinstance(updated, iotshadow.UpdateShadowResponse), updated
    assert updated.client_token == "update-1" and updated.state.reported == {"temp": 32.5}
    get = iotshadow.GetShadowRequest(thing_name=thing, client_token="get-1")
    shadow.publish_get_shadow(get, at_least_once).result(TIMEOUT_S)
    got = answers.get(timeout=TIMEOUT_S)
    assert isinstance(got, iotshadow.GetShadowResponse), got
    assert got.client_token == "get-1" and got.state.reported == {"temp": 32.5}
    assert got.version == updated.version
    connection.disconnect().result(TIMEOUT_S)


publish_and_receive_with_mqtt5()
publish_and_use_the_shadow_with_mqtt_311()
