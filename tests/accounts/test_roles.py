import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import Permission, may, may_manage
from oxidecast.streams.info import StreamInfo
from tests.accounts.test_tokens import ADA
from tests.database.support import START

STREAM = StreamInfo(id="s", name="s", title="s", owner_id=ADA.id, created_at=START)
ADMIN = msgspec.structs.replace(ADA, id="2", role="admin")
STREAMER = msgspec.structs.replace(ADA, id="3", role="streamer")
VIEWER = msgspec.structs.replace(ADA, id="4", role="viewer")


class Roles(SynchronousTestCase):
    def test_an_admin_may_everything(self) -> None:
        self.assertTrue(all(may(ADMIN, permission) for permission in Permission))
        self.assertTrue(may_manage(ADMIN, STREAM))

    def test_a_streamer_makes_streams_and_manages_its_own(self) -> None:
        allowed = {permission for permission in Permission if may(STREAMER, permission)}
        self.assertEqual(allowed, {Permission.CREATE_STREAMS, Permission.PUBLISH})
        self.assertTrue(may_manage(ADA, STREAM))
        self.assertFalse(may_manage(STREAMER, STREAM))

    def test_a_viewer_may_nothing_more_than_anybody(self) -> None:
        self.assertFalse(any(may(VIEWER, permission) for permission in Permission))

    def test_a_disabled_account_may_nothing(self) -> None:
        disabled = msgspec.structs.replace(ADA, role="admin", disabled=True)
        self.assertFalse(any(may(disabled, permission) for permission in Permission))
        self.assertFalse(may_manage(disabled, STREAM))
