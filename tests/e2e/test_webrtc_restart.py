"""A viewer whose network changes: ICE restarts by PATCH (RFC 9725 4.3.3), and the session goes on."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import publish, until
from tests.e2e.whep import PLAIN_H264, PLAY, STATS, WHEPCase

RESTART = """
async address => {
    const pc = window.pc, before = pc.remoteDescription.sdp;
    pc.restartIce();
    await pc.setLocalDescription();
    const line = (text, name) => text.match(new RegExp(`a=${name}:(.*)`))[1].trim();
    const offer = pc.localDescription.sdp;
    const body = ['ice-ufrag', 'ice-pwd'].map(name => `a=${name}:${line(offer, name)}\\r\\n`).join('');
    const answer = await fetch(address, {method: 'PATCH', body, headers: {
        'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*'}});
    const text = await answer.text();
    if (answer.status !== 200) return {status: answer.status, text};
    let sdp = before;
    for (const name of ['ice-ufrag', 'ice-pwd'])
        sdp = sdp.replaceAll(new RegExp(`a=${name}:.*`, 'g'), `a=${name}:${line(text, name)}`);
    await pc.setRemoteDescription({type: 'answer', sdp});
    return {status: 200, etag: answer.headers.get('ETag'), changed: sdp !== before};
}
"""

PAIRS = """
async () => {
    const all = [...(await window.pc.getStats()).values()];
    const transport = all.find(one => one.type === 'transport');
    return [transport.selectedCandidatePairChanges, transport.iceLocalUsernameFragment];
}
"""


@pytest.mark.alone
class RestartTests(WHEPCase):
    def decoded(self, page: Any) -> int:
        return int(page.evaluate(STATS).get("video", {}).get("framesDecoded", 0))

    def test_a_session_survives_a_restart_of_ice(self) -> None:
        name, key = self.server.new_stream("Restarted")
        log = Path(self.server.folder, "restart.log")
        with publish(self.server.ingest(key), log, video=PLAIN_H264):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
            status, text = page.evaluate(PLAY, [f"{self.server.url}/api/v1/webrtc/{name}/whep", 0])
            self.assertEqual(status, 201, text)
            until(lambda: self.decoded(page) >= 30, 15, "a second of pictures")
            _, ufrag = page.evaluate(PAIRS)
            told = page.evaluate(RESTART, self.server.url + page.evaluate("window.location_"))
            self.assertEqual((told["status"], told.get("changed")), (200, True), told)
            until(lambda: page.evaluate(PAIRS)[1] != ufrag, 5, "the new credentials are used")
            before = self.decoded(page)
            until(lambda: self.decoded(page) >= before + 60, 10, "two more seconds of pictures")
            stats = page.evaluate(STATS)
            self.assertEqual((stats["state"], stats["video"]["packetsLost"]), ("connected", 0))
            self.assertEqual(self.server.stream(name)["viewer_count"], 1)
