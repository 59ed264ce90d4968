"""A hundred thousand strange datagrams while fifty watch: nobody notices, and nothing is made of them."""

from itertools import pairwise
from typing import Any

from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.demux import Kind
from oxidecast.webrtc.ice import Address
from tests.outputs.webrtc.stage import Browser
from tests.outputs.webrtc.test_output import WebRTCCase
from tests.webrtc.noise import Noise

VIEWERS = 50
DATAGRAMS = 100_000
PICTURES = 20


class TestNoise(WebRTCCase):
    def setUp(self) -> None:
        super().setUp()
        self.browsers: dict[Address, Browser] = {}
        self.viewers: dict[Address, Viewer] = {}
        self.heard: list[bytes] = []
        """What came from browsers."""

    def say(self, datagram: bytes, source: Address) -> None:
        self.heard.append(datagram)
        self.port.datagram(datagram, source)

    def deliver(self) -> None:
        while self.socket.sent:
            sent, self.socket.sent = self.socket.sent, []
            for to, datagram in sent:
                browser = self.browsers.get(to)
                for answer in browser.receive(datagram, self.clock.seconds()) if browser else ():
                    self.say(answer, to)

    def arrive(self, number: int, connected: bool = True) -> Address:
        address = ("192.0.2.7", 5000 + number)
        self.viewers[address], self.browsers[address] = self.join()
        if connected:
            self.shake_hands(address)
        return address

    def shake_hands(self, address: Address) -> None:
        browser = self.browsers[address]
        self.say(browser.check(), address)
        for datagram in browser.start(self.clock.seconds()):
            self.say(datagram, address)
        self.deliver()
        self.say(browser.say(b"\x80\xc9\0\1" + bytes(4)), address)

    def test_nobody_notices(self) -> None:
        self.on_air(30)
        for number in range(VIEWERS):
            self.arrive(number)
        late = self.arrive(VIEWERS, connected=False)
        watching = [address for address in self.browsers if address != late]
        before = self.known()
        noise = Noise(20_261_125, self.heard)
        for picture in range(PICTURES):
            for number in range(DATAGRAMS // PICTURES):
                # One half from strangers, and one as if it came from viewers.
                source = watching[number // 2 % VIEWERS] if number % 2 else ("198.51.100.9", 1024 + number)
                self.port.datagram(noise.datagram(), source)
            self.socket.sent = [sent for sent in self.socket.sent if sent[0] in self.browsers]
            self.deliver()
            self.send(1)
            self.assertEqual(self.known(), before, picture)
        self.assertEqual((self.port.failed_handshakes, self.port.expired), (0, 0))
        self.assertGreater(
            min(self.port.datagrams[kind.value] for kind in Kind), DATAGRAMS // 50, "all kinds came"
        )
        self.assertTrue(all(self.viewers[address].peer.unauthentic for address in watching))
        self.shake_hands(late)
        for address in self.browsers:
            self.assertTrue(self.viewers[address].peer.is_connected)
        frames = {len(self.frames(self.browsers[address])) for address in watching}
        # What they began with is the group of pictures that was there.
        self.assertEqual(frames, {30 - 24 + PICTURES})
        self.assertFalse([packet for address in watching for packet in self.gaps(self.browsers[address])])

    def known(self) -> Any:
        """All that sessions are known by."""
        ice = self.port._ice
        return (
            {viewer.peer.ice: viewer.peer.address for viewer in self.viewers.values()},
            set(ice),
            dict(ice._by_address),
            set(ice._by_username),
            len(self.port),
        )

    def gaps(self, browser: Browser) -> list[int]:
        """Numbers of pictures' packets that do not follow the one before."""
        numbers = [packet.sequence_number for packet in self.video(browser)]
        return [number for before, number in pairwise(numbers) if number != before + 1]
