"""The ICE-lite responder: who gets which answer, and whose an address is."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc import stun
from oxidecast.webrtc.ice import CONSENT_TIMEOUT, MAX_ADDRESSES, Check, Credentials, IceSession, IceSessions
from tests.media.fuzz import FUZZ, mutated

HOME = ("192.0.2.1", 40000)
PHONE = ("198.51.100.9", 50000)

_transactions = count(1)


def check(
    local: Credentials,
    remote: str = "peer",
    *extra: tuple[int, bytes],
    nominate: bool = True,
    password: str | None = None,
) -> bytes:
    """A Binding request as a browser makes it."""
    attributes = [
        (stun.USERNAME, f"{local.ufrag}:{remote}".encode()),
        (0xC057, b"\x00\x01\x00\x0a"),
        (stun.PRIORITY, b"\x6e\x7f\x1e\xff"),
        *(extra or ((stun.ICE_CONTROLLING, bytes(8)),)),
    ]
    if nominate:
        attributes.append((stun.USE_CANDIDATE, b""))
    key = stun.IntegrityKey(local.password if password is None else password)
    return stun.build(stun.BINDING_REQUEST, next(_transactions).to_bytes(12, "big"), attributes, key)


def code(result: Check) -> int:
    """The error code of an answer."""
    assert result.answer is not None
    message = stun.parse(result.answer)
    assert message.kind == stun.BINDING_ERROR
    value = message.attributes[stun.ERROR_CODE]
    return value[2] * 100 + value[3]


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.sessions = IceSessions()
        self.session = self.sessions.open("peer", now=0.0)

    def checked(self, datagram: bytes, source: tuple[str, int] = HOME, now: float = 0.0) -> Check:
        return self.sessions.receive(datagram, source, now)


class Checks(Case):
    def test_a_valid_check_is_answered_with_the_address_it_came_from(self) -> None:
        request = check(self.session.local)
        result = self.checked(request)
        assert result.answer is not None
        answer = stun.parse(result.answer)
        self.assertEqual(answer.kind, stun.BINDING_RESPONSE)
        self.assertEqual(answer.transaction, stun.parse(request).transaction)
        self.assertTrue(stun.IntegrityKey(self.session.local.password).verifies(answer))
        self.assertEqual(
            answer.attributes[stun.XOR_MAPPED_ADDRESS],
            stun.xor_mapped_address(*HOME, answer.transaction)[1],
        )

    def test_a_valid_check_makes_its_source_the_sessions(self) -> None:
        result = self.checked(check(self.session.local, nominate=False))
        self.assertIs(result.session, self.session)
        self.assertIs(self.sessions.at(HOME), self.session)
        self.assertIsNone(self.session.selected)

    def test_use_candidate_selects(self) -> None:
        self.assertTrue(self.checked(check(self.session.local)).nominated)
        self.assertEqual(self.session.selected, HOME)

    def test_the_second_nomination_of_the_same_address_is_no_news(self) -> None:
        self.checked(check(self.session.local))
        self.assertFalse(self.checked(check(self.session.local)).nominated)

    def test_a_session_keeps_its_viewer_when_the_address_changes(self) -> None:
        self.checked(check(self.session.local))
        self.assertTrue(self.checked(check(self.session.local), PHONE).nominated)
        self.assertEqual(self.session.selected, PHONE)
        self.assertEqual(self.session.addresses, (HOME, PHONE))

    def test_an_indication_is_passed_over(self) -> None:
        indication = stun.build(stun.BINDING_INDICATION, bytes(12), [])
        self.assertEqual(self.checked(indication), Check())

    def test_a_response_is_no_business_of_a_lite_agent(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "0x0101 is no Binding request"):
            self.checked(stun.build(stun.BINDING_RESPONSE, bytes(12), []))


class Refusals(Case):
    def assertUntouched(self) -> None:
        self.assertIsNone(self.sessions.at(HOME))
        self.assertIsNone(self.session.selected)

    def test_a_wrong_password_is_401(self) -> None:
        self.assertEqual(code(self.checked(check(self.session.local, password="x" * 24))), 401)
        self.assertUntouched()

    def test_an_unknown_ufrag_is_401(self) -> None:
        stranger = Credentials("stranger", self.session.local.password)
        self.assertEqual(code(self.checked(check(stranger))), 401)

    def test_another_peers_ufrag_behind_the_colon_is_401(self) -> None:
        self.assertEqual(code(self.checked(check(self.session.local, "other"))), 401)
        self.assertUntouched()

    def test_no_integrity_is_400(self) -> None:
        username = f"{self.session.local.ufrag}:peer".encode()
        bare = stun.build(stun.BINDING_REQUEST, bytes(12), [(stun.USERNAME, username)])
        self.assertEqual(code(self.checked(bare)), 400)
        self.assertUntouched()

    def test_no_username_is_400(self) -> None:
        key = stun.IntegrityKey(self.session.local.password)
        self.assertEqual(code(self.checked(stun.build(stun.BINDING_REQUEST, bytes(12), [], key))), 400)

    def test_an_attribute_that_must_be_understood_is_420_and_named(self) -> None:
        result = self.checked(check(self.session.local, "peer", (0x7777, b"?")))
        self.assertEqual(code(result), 420)
        assert result.answer is not None
        self.assertEqual(stun.parse(result.answer).attributes[stun.UNKNOWN_ATTRIBUTES], b"\x77\x77")
        self.assertUntouched()

    def test_a_peer_that_would_be_controlled_is_told_to_control(self) -> None:
        result = self.checked(check(self.session.local, "peer", (stun.ICE_CONTROLLED, bytes(8))))
        self.assertEqual(code(result), 487)
        self.assertUntouched()

    def test_the_answer_to_a_stranger_is_never_longer_than_the_question(self) -> None:
        for size in range(0, 64, 4):
            request = stun.build(stun.BINDING_REQUEST, bytes(12), [(0xC001, bytes(size))])
            answer = self.checked(request).answer
            self.assertLessEqual(len(answer or b""), len(request))

    def test_a_closed_session_is_a_stranger(self) -> None:
        request = check(self.session.local)
        self.checked(request)
        self.sessions.close(self.session)
        self.sessions.close(self.session)
        self.assertEqual(code(self.checked(request)), 401)
        self.assertUntouched()
        self.assertEqual(len(self.sessions), 0)

    def test_a_ufrag_of_other_characters_is_refused(self) -> None:
        for ufrag in ("abc", "a" * 257, "ab:d", "ab d", "abcdé", "abcd\n"):
            with self.assertRaisesRegex(RemoteProtocolError, "ice-ufrag"):
                self.sessions.open(ufrag, 0.0)

    @FUZZ
    @given(st.binary(max_size=200))
    def test_noise_makes_no_session_and_owns_no_address(self, datagram: bytes) -> None:
        for hostile in (datagram, check(self.session.local)[:20] + datagram):
            try:
                self.assertIsNone(self.checked(hostile).session)
            except RemoteProtocolError:
                pass
        self.assertUntouched()

    @FUZZ
    @given(st.data())
    def test_a_check_with_faults_proves_nothing(self, data: st.DataObject) -> None:
        true = check(self.session.local)
        hostile = data.draw(mutated(true))
        # What its integrity does not cover may be another: FINGERPRINT, the last eight bytes.
        if hostile[:-8] == true[:-8]:
            return
        try:
            self.assertIsNone(self.checked(hostile).session)
        except RemoteProtocolError:
            pass
        self.assertUntouched()


class Consent(Case):
    def test_it_ends_30_seconds_after_the_last_check_of_the_selected_address(self) -> None:
        self.checked(check(self.session.local), now=10.0)
        self.checked(check(self.session.local, nominate=False), PHONE, now=30.0)
        self.assertEqual(self.session.deadline, 10.0 + CONSENT_TIMEOUT)
        self.assertEqual(self.sessions.expired(39.9), [])
        self.assertEqual(self.sessions.expired(40.0), [self.session])

    def test_each_check_renews_it(self) -> None:
        for now in (0.0, 20.0, 40.0):
            self.checked(check(self.session.local), now=now)
        self.assertEqual(self.session.deadline, 70.0)

    def test_a_session_that_nobody_checks_ends_too(self) -> None:
        self.assertEqual(self.sessions.expired(CONSENT_TIMEOUT), [self.session])

    def test_a_refused_check_renews_nothing(self) -> None:
        self.checked(check(self.session.local), now=0.0)
        self.checked(check(self.session.local, password="x" * 24), now=20.0)
        self.assertEqual(self.session.deadline, CONSENT_TIMEOUT)


class Restart(Case):
    def setUp(self) -> None:
        super().setUp()
        self.old = self.session.local
        self.checked(check(self.old))

    def test_the_old_credentials_are_good_until_the_first_new_check(self) -> None:
        new = self.sessions.restart(self.session, "fresh")
        self.assertEqual(self.session.local, new)
        self.assertIs(self.checked(check(self.old)).session, self.session)
        self.assertIs(self.checked(check(new, "fresh"), PHONE).session, self.session)
        self.assertEqual(self.session.selected, PHONE)
        self.assertEqual(code(self.checked(check(self.old))), 401)

    def test_both_halves_are_new(self) -> None:
        new = self.sessions.restart(self.session, "fresh")
        self.assertNotEqual(new.ufrag, self.old.ufrag)
        self.assertNotEqual(new.password, self.old.password)

    def test_a_second_restart_takes_the_place_of_an_unused_first(self) -> None:
        first = self.sessions.restart(self.session, "one1")
        second = self.sessions.restart(self.session, "two2")
        self.assertEqual(code(self.checked(check(first, "one1"))), 401)
        self.assertIs(self.checked(check(self.old)).session, self.session)
        self.assertIs(self.checked(check(second, "two2")).session, self.session)

    def test_nothing_is_left_of_a_closed_session(self) -> None:
        new = self.sessions.restart(self.session, "fresh")
        self.sessions.close(self.session)
        self.assertEqual(code(self.checked(check(self.old))), 401)
        self.assertEqual(code(self.checked(check(new, "fresh"))), 401)
        with self.assertRaisesRegex(LocalProtocolError, "closed"):
            self.sessions.restart(self.session, "again")


class Addresses(Case):
    def from_port(self, session: IceSession, port: int, nominate: bool = False) -> None:
        self.checked(check(session.local, nominate=nominate), ("203.0.113.1", port))

    def test_there_are_only_so_many_and_the_longest_unused_goes(self) -> None:
        self.checked(check(self.session.local))
        for port in range(MAX_ADDRESSES + 5):
            self.from_port(self.session, port)
        self.assertEqual(len(self.session.addresses), MAX_ADDRESSES)
        self.assertIs(self.sessions.at(HOME), self.session)
        self.assertIsNone(self.sessions.at(("203.0.113.1", 0)))

    def test_a_port_that_a_nat_gave_to_another_peer_belongs_to_who_proved_it_last(self) -> None:
        self.checked(check(self.session.local), now=0.0)
        other = self.sessions.open("peer", 0.0)
        self.checked(check(other.local), now=5.0)
        self.assertIs(self.sessions.at(HOME), other)
        self.assertIsNone(self.session.selected)
        self.assertEqual(self.session.addresses, ())
        self.sessions.close(self.session)
        self.assertIs(self.sessions.at(HOME), other)

    def test_credentials_are_long_and_of_ice_characters(self) -> None:
        for _ in range(200):
            local = self.sessions.open("peer", 0.0).local
            self.assertRegex(local.ufrag, r"^[A-Za-z0-9+/]{12}$")
            self.assertRegex(local.password, r"^[A-Za-z0-9+/]{32}$")
