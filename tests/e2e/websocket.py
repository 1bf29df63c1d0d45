"""Eclipse Paho over WebSocket and TLS with a client certificate, in MQTT 3.1.1 and 5.

Arguments: port, CA file, certificate, private key, client id.
Exit code 0: what was published came back.
"""

import queue
import sys

from paho.mqtt import client as mqtt

TIMEOUT_S = 10
TOPIC = "sensor/websocket"

port, ca_file, certificate, private_key, client_id = sys.argv[1:]


def round_trip(protocol):
    connected, subscribed, received = queue.Queue(), queue.Queue(), queue.Queue()
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=protocol, transport="websockets"
    )
    client.ws_set_options(path="/mqtt")
    client.tls_set(ca_certs=ca_file, certfile=certificate, keyfile=private_key)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: connected.put(reason)
    client.on_subscribe = lambda _client, _data, _id, reasons, _properties: subscribed.put(reasons)
    client.on_message = lambda _client, _data, message: received.put(message)
    client.connect("localhost", int(port))
    client.loop_start()
    reason = connected.get(timeout=TIMEOUT_S)
    assert not reason.is_failure, reason
    client.subscribe(TOPIC, qos=1)
    assert [reason.value for reason in subscribed.get(timeout=TIMEOUT_S)] == [1]
    # More than one frame of a WebSocket, and of a TLS record.
    payload = bytes(range(256)) * 400
    client.publish(TOPIC, payload, qos=1).wait_for_publish(TIMEOUT_S)
    message = received.get(timeout=TIMEOUT_S)
    assert (message.topic, message.payload, message.qos) == (TOPIC, payload, 1), message
    client.disconnect()
    client.loop_stop()


round_trip(mqtt.MQTTv311)
round_trip(mqtt.MQTTv5)
