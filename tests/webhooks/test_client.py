"""Posts over real sockets: what is answered, what is refused, and what ends them."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import BrowserLikePolicyForHTTPS

from oxidecast.webhooks.client import LARGEST_ANSWER, Answer, Poster, Undelivered
from tests.webhooks.receiver import Certificate, Names, Receiver


class PostCase(TestCase):
    timeout = 20

    async def post(self, url: str, allow_private: bool = True, within: float = 10, **more: object) -> Answer:
        """`more` may hold a `reactor` and a `policy`."""
        poster = Poster(more.get("reactor", reactor), url, allow_private, more.get("policy"))  # type: ignore[arg-type]
        return await poster.post({"x-test": "yes"}, b'{"a": 1}', within)

    async def why_not(self, url: str, allow_private: bool = True, within: float = 10, **more: object) -> str:
        try:
            answer = await self.post(url, allow_private, within, **more)
        except Undelivered as problem:
            return str(problem)
        raise AssertionError(f"it was answered {answer.status}")


class Posting(PostCase):
    async def test_a_post_and_its_answer(self) -> None:
        receiver = Receiver((201, b"thanks", {"X-Found": "it"})).listen(self)
        answer = await self.post(f"{receiver.url}?a=b")
        self.assertEqual((answer.status, answer.body, answer.whole), (201, b"thanks", True))
        self.assertEqual(answer.headers.getRawHeaders("x-found"), ["it"])
        (posted,) = receiver.posts
        self.assertEqual((posted.path, posted.body), ("/hook?a=b", b'{"a": 1}'))
        self.assertEqual(posted.headers["content-type"], "application/json")
        self.assertEqual(posted.headers["x-test"], "yes")

    async def test_a_redirect_is_an_answer_like_others(self) -> None:
        elsewhere = Receiver().listen(self)
        receiver = Receiver((307, b"", {"Location": elsewhere.url})).listen(self)
        self.assertEqual((await self.post(receiver.url)).status, 307)
        self.assertEqual(elsewhere.posts, [])

    async def test_of_a_long_answer_only_the_beginning_is_read(self) -> None:
        receiver = Receiver((200, b"x" * 5_000_000, {})).listen(self)
        answer = await self.post(receiver.url)
        self.assertEqual((len(answer.body), answer.whole), (LARGEST_ANSWER, False))

    async def test_who_does_not_answer_is_left(self) -> None:
        receiver = Receiver(None).listen(self)
        self.assertEqual(await self.why_not(receiver.url, within=0.3), "there was no answer within 0.3 s")
        # Its connection is cut, which the receiver notices.
        (request,) = receiver.held
        await request.notifyFinish().addErrback(lambda failure: failure.trap(ConnectionLost))

    async def test_one_that_sends_its_answer_drop_by_drop_is_left_as_well(self) -> None:
        class Dripping(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")  # type: ignore[union-attr]
                self.loop = LoopingCall(lambda: self.transport.write(b"x"))  # type: ignore[union-attr]
                self.loop.start(0.05)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                self.loop.stop()
                lost.callback(None)

        lost: Deferred[None] = Deferred()
        port = reactor.listenTCP(0, Factory.forProtocol(Dripping), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        reason = await self.why_not(f"http://127.0.0.1:{port.getHost().port}/", within=0.3)
        self.assertEqual(reason, "there was no answer within 0.3 s")
        await lost

    async def test_who_answers_nonsense_or_nothing(self) -> None:
        class Nonsense(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"220 smtp.example.com\r\n")  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

        port = reactor.listenTCP(0, Factory.forProtocol(Nonsense), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        reason = await self.why_not(f"http://127.0.0.1:{port.getHost().port}/")
        self.assertIn("127.0.0.1 could not be posted to (", reason)

    async def test_a_port_that_nobody_listens_on(self) -> None:
        self.assertEqual(await self.why_not("http://127.0.0.1:1/"), "127.0.0.1 refused the connection")

    async def test_a_post_is_no_line_of_the_log(self) -> None:
        said: list[object] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        certificate = Certificate("127.0.0.1")
        policy = BrowserLikePolicyForHTTPS(certificate.trusted)
        encrypted = Receiver().listen(self, certificate.own.options())
        await self.post(Receiver().listen(self).url)
        await self.post(f"https://127.0.0.1:{encrypted.port}/", policy=policy)
        self.assertEqual(
            [entry for entry in said if "factory" in str(entry) and "Site" not in str(entry)], []
        )

    async def test_no_reason_holds_the_address(self) -> None:
        for path in ("http://127.0.0.1:1/a-secret", "https://127.0.0.1:1/a?a-secret=x"):
            self.assertNotIn("a-secret", await self.why_not(path))


class Resolving(PostCase):
    """A name is what its zone's owner says at that moment."""

    async def test_a_name_is_posted_to(self) -> None:
        receiver = Receiver().listen(self)
        names = Names(["127.0.0.1"])
        answer = await self.post(f"http://hooks.example.com:{receiver.port}/", reactor=names)
        self.assertEqual((answer.status, names.connected), (204, ["127.0.0.1"]))
        self.assertEqual(receiver.posts[0].headers["host"], f"hooks.example.com:{receiver.port}")

    async def test_a_name_of_a_private_address_is_not_connected_to(self) -> None:
        receiver = Receiver().listen(self)
        for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"):
            names = Names([address])
            reason = await self.why_not(f"http://hooks.example.com:{receiver.port}/", False, reactor=names)
            self.assertIn("hooks.example.com was not connected to, because it is", reason)
            self.assertEqual(names.connected, [], address)
        self.assertEqual(receiver.posts, [])

    async def test_metadata_stays_closed_where_private_is_allowed(self) -> None:
        names = Names(["169.254.169.254"])
        await self.why_not("http://hooks.example.com/", True, reactor=names)
        self.assertEqual(names.connected, [])

    async def test_an_address_in_the_url_is_looked_at_as_well(self) -> None:
        receiver = Receiver().listen(self)
        for host in ("127.0.0.1", "2130706433", "0x7f000001", "localhost", "[::ffff:127.0.0.1]"):
            await self.why_not(f"http://{host}:{receiver.port}/", False)
        self.assertEqual(receiver.posts, [])

    async def test_a_name_that_means_something_else_the_next_time(self) -> None:
        receiver = Receiver().listen(self)
        names = Names(["192.0.2.7"], ["127.0.0.1"])
        await self.why_not(f"http://hooks.example.com:{receiver.port}/", False, reactor=names)
        await self.why_not(f"http://hooks.example.com:{receiver.port}/", False, reactor=names)
        self.assertEqual((names.asked, names.connected), (["hooks.example.com"] * 2, []))

    async def test_of_several_addresses_only_the_open_ones_are_tried(self) -> None:
        receiver = Receiver().listen(self)
        names = Names(["169.254.169.254", "127.0.0.1"])
        await self.post(f"http://hooks.example.com:{receiver.port}/", reactor=names)
        self.assertEqual(names.connected, ["127.0.0.1"])

    async def test_a_name_that_does_not_exist(self) -> None:
        reason = await self.why_not("http://hooks.example.com/", reactor=Names([]))
        self.assertEqual(reason, "hooks.example.com is not a name that resolves")


class Encrypted(PostCase):
    async def test_a_certificate_that_is_trusted_and_of_that_name(self) -> None:
        certificate = Certificate("hooks.example.com")
        receiver = Receiver().listen(self, certificate.own.options())
        policy = BrowserLikePolicyForHTTPS(certificate.trusted)
        url = f"https://hooks.example.com:{receiver.port}/"
        answer = await self.post(url, reactor=Names(["127.0.0.1"]), policy=policy)
        self.assertEqual((answer.status, len(receiver.posts)), (204, 1))

    async def test_one_of_another_name_or_of_nobody_known_gets_nothing(self) -> None:
        certificate = Certificate("other.example.com")
        receiver = Receiver().listen(self, certificate.own.options())
        url = f"https://hooks.example.com:{receiver.port}/"
        for policy in (BrowserLikePolicyForHTTPS(certificate.trusted), None):
            reason = await self.why_not(url, reactor=Names(["127.0.0.1"]), policy=policy)
            self.assertIn("could not be verified by TLS", reason)
        self.assertEqual(receiver.posts, [])
