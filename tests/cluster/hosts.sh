#!/usr/bin/env bash
# Hosts on this machine, for tests/cluster/test_ray_up.py. Each has its own network, processes, host name, /home, /tmp, /mnt,
# /run, /dev/shm and sshd; /mnt/shared is one for all. 10.77.0.1 is the user's machine, 10.77.0.2 the first host.
#
#   unshare --fork --kill-child --pid --net --mount --mount-proc bash hosts.sh PLACE "KEEP..." HOST...
#
# Lives until its input ends, and then nothing of it is left: a host is a pid namespace within this one. Nothing of the
# machine's network or mounts is changed. KEEP: folders that stay visible, which hold the Python that runs the test.
set -euo pipefail
place=$1 keep=$2
shift 2

cover() { # DIR WITH: in this namespace WITH lies over DIR, but for what is to be kept
    local kept
    mkdir -p "$2"
    for kept in $keep; do
        case $kept in
        "$1"/*)
            mkdir -p "$2${kept#"$1"}"
            mount --bind "$kept" "$2${kept#"$1"}"
            ;;
        esac
    done
    mount --rbind "$2" "$1"
}

host() { # NAME NUMBER
    until ip link set "eth$2" up 2>&-; do sleep 0.02; done
    ip link set lo up
    ip addr add "10.77.0.$2/24" dev "eth$2"
    ip route add default via 10.77.0.1 # without a route Ray takes 127.0.0.1 for its address
    hostname "$1"
    mount -t tmpfs tmpfs /run && mkdir /run/sshd
    mount -t tmpfs tmpfs /dev/shm
    mount --bind "$place/passwd" /etc/passwd
    mkdir -p "$place/$1/mnt/shared" "$place/shared"
    mount --bind "$place/shared" "$place/$1/mnt/shared"
    for folder in home mnt tmp; do cover "/$folder" "$place/$1/$folder"; done
    exec "$(command -v sshd)" -D -e -f /home/ubuntu/sshd_config
}

export place keep
export -f cover host
cover /tmp "$place/user/tmp"
: >"$place/resolv.conf"
mount --bind "$place/resolv.conf" /etc/resolv.conf # or every look-up of a name would wait for a server out of reach
mount --bind "$place/hosts" /etc/hosts
ip link set lo up
ip link add br0 type bridge
ip addr add 10.77.0.1/24 dev br0
ip link set br0 up
number=2
for name in "$@"; do
    unshare --fork --kill-child --pid --net --mount --uts --mount-proc bash -c "set -eu; host $name $number" >"$place/$name.log" 2>&1 </dev/null &
    until [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
    ip link add "veth$number" type veth peer name "eth$number" netns "$!"
    ip link set "veth$number" master br0 up
    until (echo >"/dev/tcp/10.77.0.$number/22") 2>&-; do sleep 0.02; done
    number=$((number + 1))
done
echo ready
while read -r _; do :; done
