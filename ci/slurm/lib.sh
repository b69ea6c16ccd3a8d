# Shared by up, node and down; sourced, not run.
started() { # started PID: the start time of a process (clock ticks since boot), empty when it is gone
    local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    s=${s##*) }; set -- $s
    [ "$1" = Z ] || echo "${20}"
}
keep() { echo "$1 $(started "$1")" >"$D/pids/$2.pid"; }          # keep PID NAME
alive() { # alive FILE: whether the process noted in FILE is still that process
    local p s; read -r p s <"$1" 2>/dev/null || return 1
    [ -n "$s" ] && [ "$(started "$p")" = "$s" ]
}
stop_one() { # stop_one FILE SIGNAL
    local p s; alive "$1" || return 0
    read -r p s <"$1"; kill "-$2" "$p" 2>/dev/null || :
}
start_ctld() { # start_ctld DIR [-c]: the controller; -c forgets what it has saved
    SLURM_CONF=$1/slurm.conf setsid slurmctld -D ${2:-} -f "$1/slurm.conf" >"$1/log/slurmctld.out" 2>&1 </dev/null &
    keep $! slurmctld
}
start_dbd() { # start_dbd DIR PORT: slurmdbd on a MariaDB of its own, which knows the cluster
    local d=$1
    mkdir "$d/db"
    mariadb-install-db --no-defaults --user=root --datadir="$d/db" --auth-root-authentication-method=normal \
        --skip-test-db --innodb-buffer-pool-size=32M >"$d/log/mariadb-install.log" 2>&1 || return 1
    setsid mariadbd --no-defaults --user=root --datadir="$d/db" --socket="$d/db/sock" --skip-networking --skip-log-bin \
        --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 >"$d/log/mariadbd.log" 2>&1 </dev/null &
    keep $! mariadbd
    for _ in $(seq 400); do [ -S "$d/db/sock" ] && break; sleep 0.05; done
    (umask 077; cat >"$d/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$d/munge/sock
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=$2
SlurmUser=root
LogFile=$d/log/slurmdbd.log
PidFile=$d/pids/slurmdbd.pidfile
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CONF
    )
    SLURM_CONF=$d/slurm.conf MYSQL_UNIX_PORT=$d/db/sock setsid slurmdbd -D >"$d/log/slurmdbd.out" 2>&1 </dev/null &
    keep $! slurmdbd
    for _ in $(seq 200); do
        timeout 5 sacctmgr -i add cluster cwtest >>"$d/log/sacctmgr.log" 2>&1 && return 0
        alive "$d/pids/slurmdbd.pid" || return 1
        sleep 0.1
    done
    return 1
}
start_node() { # start_node DIR I: slurmd of node cwI, with a host name and a hosts file of its own
    mkdir -p "$1/spool/cw$2"
    SLURM_CONF=$1/slurm.conf setsid unshare --uts --mount sh -c '
        d=$1 n=$2
        stat -L -c %i /proc/self/ns/uts >"$d/pids/$n.uts" && hostname "$n" \
            && mount --bind "$d/hosts" /etc/hosts && exec slurmd -D -c -N "$n" -f "$d/slurm.conf"
    ' slurmd-start "$1" "cw$2" >"$1/log/cw$2.out" 2>&1 </dev/null &
    keep $! "cw$2"
}
# node_pids DIR [NODE]: every process of the cluster's nodes (or of one): slurmd, its step daemons and all that jobs have
# started. Each node runs in a UTS namespace of its own, which was noted when it started.
node_pids() {
    local ns; ns=$(cat "$1"/pids/${2:-cw*}.uts 2>/dev/null | tr '\n' ' ')
    [ -n "${ns// }" ] || return 0
    { stat -L -c '%i %n' /proc/[0-9]*/ns/uts 2>/dev/null || :; } |
        awk -v ns="$ns" 'BEGIN { split(ns, a); for (k in a) own[a[k]] } $1 in own { split($2, b, "/"); print b[3] }'
}
