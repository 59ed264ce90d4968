#!/bin/sh
# Installs the programs that the tests use, on Debian as root; elsewhere says what is missing.
set -eu

packages="python3-venv ffmpeg vlc-bin vlc-plugin-base vlc-plugin-access-extra vlc-plugin-video-output obs-studio xvfb
x11-utils xdotool imagemagick libgl1-mesa-dri libegl1 dbus dbus-x11 openbox chromium nginx-light wrk curl procps"

missing() {
    for package in $packages; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || echo "$package"
    done
}

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian machine: the tests need ffmpeg, VLC, OBS Studio with Xvfb, Chromium, nginx, wrk and curl." >&2
    exit 0
fi
wanted=$(missing)
[ -z "$wanted" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Please install what the tests need: apt-get install --no-install-recommends" $wanted >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $wanted >/dev/null
