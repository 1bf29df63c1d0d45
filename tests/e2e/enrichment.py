"""Eclipse Paho as a device of a thing type that adds user properties to what its things publish.

Arguments: port, CA file, certificate, private key, client id.
Exit code 0: what the device publishes, in MQTT 3.1.1 and 5, has the properties that its type says.
"""

import queue
import sys

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT_S = 10
TOPIC = "sensor/enrichment"

port, ca_file, certificate, private_key, client_id = sys.argv[1:]


def connect(protocol):
    """A client, and what it receives. The certificate's thing is exclusive: any client id will do."""
    events, received = queue.Queue(), queue.Queue()
    name = f"{client_id}-{protocol}-{connect.count}"
    connect.count += 1
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=protocol)
    client.tls_set(ca_certs=ca_file, certfile=certificate, keyfile=private_key)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: events.put(reason)
    client.on_subscribe = lambda _client, _data, _id, reasons, _properties: events.put(reasons[0])
    client.on_message = lambda _client, _data, message: received.put(message)
    client.connect("localhost", int(port))
    client.loop_start()
    assert not events.get(timeout=TIMEOUT_S).is_failure
    return client, name, events, received


connect.count = 0
application, _, events, received = connect(mqtt.MQTTv5)
application.subscribe(TOPIC, qos=1)
assert events.get(timeout=TIMEOUT_S).value == 1
for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
    device, name, _, _ = connect(protocol)
    own, properties = [], None
    if protocol == mqtt.MQTTv5:
        own, properties = [("site", "mine")], Properties(PacketTypes.PUBLISH)
        properties.UserProperty = own
    device.publish(TOPIC, b"{}", qos=1, properties=properties).wait_for_publish(TIMEOUT_S)
    message = received.get(timeout=TIMEOUT_S)
    expected = own + [("site", "hall-2"), ("thing", client_id), ("id", name)]
    assert message.properties.UserProperty == expected, message.properties.UserProperty
    device.loop_stop()
    device.disconnect()
application.loop_stop()
application.disconnect()
