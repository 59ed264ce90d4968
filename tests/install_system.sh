#!/bin/sh
# Installs programs from Debian's archive: those named, or all that the tests use. Only root can; others are told.
set -eu

packages="${*:-python3-venv ffmpeg vlc-bin vlc-plugin-base vlc-plugin-access-extra vlc-plugin-video-output obs-studio xvfb
x11-utils xdotool imagemagick libgl1-mesa-dri libegl1 dbus dbus-x11 openbox chromium nginx-light libnginx-mod-stream haproxy wrk curl procps
iproute2 tshark gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 python3-gst-1.0 firefox-esr
postgresql}"

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian machine; please install what these packages of Debian's hold:" $packages >&2
    # The tests themselves fail where a program is missing; a machine that is made for them should not get so far.
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi

wanted=
for package in $packages; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || wanted="$wanted $package"
done
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Please install: apt-get install --no-install-recommends$wanted" >&2
    exit 1
fi
echo "Installing$wanted" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
case "$wanted " in
*" postgresql "*)
    # Without a cluster of the system's, which would run from now on: the tests start servers of their own.
    apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
    sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    ;;
esac
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $wanted >/dev/null
