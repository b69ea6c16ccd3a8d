# What is done on a worker's host, in any POSIX shell. Before it stand assignments, behind it the name of one function;
# what follows those on the standard input is for that function. Lines for the caller begin with `cw:`: a login shell may
# print what it likes.
#
# ID        name of this fleet's folder on this host
# HASH      BLAKE3 of the program, SHA its SHA-256, SIZE its bytes
# PROGRAM   where it lies at home, CHECK its words that do nothing but show that it runs
# CW, NAME  folder of clusters at home, and the cluster's name; FLEET marks the fleet in it
# ACCESS    bytes of the access file
# WORDS     the worker's words, quoted
mask=$(umask)
umask 077
PATH=$PATH:/usr/bin:/bin:/usr/sbin:/sbin
export PATH
unset CDPATH

say() {
    printf 'cw:%s\n' "$*"
}

fail() {
    say "failed $(printf '%s' "$*" | tr '\n' ' ')"
    exit 0
}

# Where there may be folders of ours: in the home, or where that does not do, among temporary files.
own_cache="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}"
own_temporary="${TMPDIR:-/tmp}"
base_home="$own_cache/cw"
base_temporary="$own_temporary/cw-ssh-$(id -u)"

# Makes a folder that nobody else can write to; one that others have made does not do.
private() {
    mkdir "$1" 2>/dev/null || [ -d "$1" ] || return 1
    is_private "$1"
}

# Whether a folder is this user's alone, and no link.
is_private() {
    path=$1
    # Mode, links, owner.
    # shellcheck disable=SC2046
    set -- $(ls -ldn "$path" 2>/dev/null)
    owner=${3-}
    case ${1-} in
        drwx------*) [ "$owner" = "$(id -u)" ] && [ -w "$path" ] ;;
        *) return 1 ;;
    esac
}

choose_base() {
    BASE=$base_home
    [ -d "$own_cache" ] && private "$BASE" && return
    BASE=$base_temporary
    private "$BASE" || fail "neither $base_home nor $base_temporary can be a private folder: $(mkdir "$BASE" 2>&1)"
}

# The folder of this fleet, if there is one. What others have made is none: its files would say which process is killed.
find_folder() {
    for BASE in "$base_home" "$base_temporary"; do
        F=$BASE/$ID
        [ -d "$F" ] || continue
        is_private "$BASE" && is_private "$F" && return
        [ "$owner" != "$(id -u)" ] || fail "$path is open to others, or a link: \`chmod 700 $path\` there if it is yours"
    done
    return 1
}

# When a process began; nothing if there is none of this id, or it has ended and nobody has waited for it.
began() {
    if [ -r /proc/self/stat ]; then
        began_words=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
        # Behind the name in brackets, which may have brackets, comes the third field; the start is the 22nd.
        # shellcheck disable=SC2086
        set -- ${began_words##*) }
        case $1 in
            Z | X | x) ;;
            *) printf '%s' "${20}" ;;
        esac
    else
        # shellcheck disable=SC2046
        set -- $(ps -o stat= -o lstart= -p "$1" 2>/dev/null)
        case ${1-Z} in
            Z*) ;;
            *) shift && printf '%s' "$*" ;;
        esac
    fi
}

# Whether the process that is noted in a file runs. It is `$pid` then.
runs() {
    pid='' start=''
    [ -r "$1" ] && read -r pid start <"$1" && [ -n "$start" ] || return
    case $pid in
        '' | *[!0-9]*) return 1 ;;
    esac
    [ "$(began "$pid")" = "$start" ]
}

# Waits, at most so many tenths of a second, until something holds.
until_holds() {
    tenths=$1
    shift
    while ! "$@"; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1 2>/dev/null || { sleep 1; tenths=$((tenths - 9)); }
    done
}

has_ended() { ! runs "$F/worker"; }
is_noted() { [ -s "$F/worker" ] || [ -s "$F/exit" ]; }
is_over() { has_ended && { [ -s "$F/exit" ] || ! runs "$F/keeper"; }; }

# The SHA-256 of a file; nothing if nobody here can tell.
sum() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum_words=$(sha256sum <"$1")
    elif command -v shasum >/dev/null 2>&1; then
        sum_words=$(shasum -a 256 <"$1")
    else
        return
    fi
    printf '%s' "${sum_words%% *}"
}

# Whether a file is the program: as large, and with its content as far as that can be told.
is_program() {
    [ -f "$1" ] && [ -x "$1" ] && [ "$(($(wc -c <"$1")))" = "$SIZE" ] && [ "$(sum "$1")" = "$SHA" ]
}

# Takes the program from the standard input.
put() {
    choose_base
    private "$BASE/bin" || fail "cannot make $BASE/bin"
    part=$BASE/bin/.$HASH.$$
    trap 'rm -f "$part"' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    why=$(cat 2>&1 >"$part") || fail "cannot write $part: $why"
    came=$(($(wc -c <"$part")))
    [ "$came" = "$SIZE" ] || fail "$came of $SIZE bytes of the program came"
    found=$(sum "$part")
    [ -z "$found" ] || [ "$found" = "$SHA" ] || fail "the program was changed while it was sent"
    chmod 700 "$part"
    # shellcheck disable=SC2086
    why=$("$part" $CHECK 2>&1 </dev/null) || fail "the program does not run there: $why"
    mv -f "$part" "$BASE/bin/$HASH" || fail "cannot write $BASE/bin/$HASH"
    say put
}

# Starts a worker, if none runs. Takes the access file from the standard input.
start() {
    choose_base
    F=$BASE/$ID
    private "$F" || fail "cannot make $F"
    say "folder $F"
    printf '%s\n' "$HASH" >"$F/program" || fail "cannot write to $F"
    if runs "$F/worker"; then
        say "running $pid"
        exit 0
    fi
    run=$PROGRAM
    is_program "$run" || run=$BASE/bin/$HASH
    if ! [ -x "$run" ]; then
        say need
        exit 0
    fi
    place_cluster
    T=$own_temporary/cw-$ID
    private "$T" || fail "cannot make $T"
    printf '%s\n' "$T" >"$F/scratch"
    rm -f "$F/worker" "$F/keeper" "$F/exit"
    # shellcheck disable=SC2119
    run_worker
    until_holds 100 is_noted || fail "the worker did not start: $(tail -n 3 "$F/log" 2>&1)"
    runs "$F/worker"
    say "started $pid"
}

# Where the worker finds its cluster: in the folder of the one who starts it, if that is seen here, or in one of its own.
place_cluster() {
    if grep -q "\"$FLEET\"" "$CW/$NAME/fleet.json" 2>/dev/null && [ -r "$CW/$NAME/worker.json" ]; then
        CW_HOME=$CW
        return
    fi
    CW_HOME=$F/home
    mkdir -p "$CW_HOME/$NAME" || fail "cannot make $CW_HOME/$NAME"
    dd bs=1 "count=$ACCESS" 2>/dev/null >"$F/access"
    came=$(($(wc -c <"$F/access")))
    [ "$came" = "$ACCESS" ] || fail "$came of $ACCESS bytes of the access file came"
    mv -f "$F/access" "$CW_HOME/$NAME/worker.json" || fail "cannot write $CW_HOME/$NAME/worker.json"
}

# Runs the worker in a session of its own, which ends with no connection, and a shell that notes how it ends.
# shellcheck disable=SC2120
run_worker() {
    if command -v setsid >/dev/null 2>&1; then apart='setsid'; else apart='nohup'; fi
    eval "set -- $WORDS"
    cd / || fail "cannot go to /"
    (
        trap : HUP INT TERM
        umask "$mask"
        CW_HOME=$CW_HOME TMPDIR=$T "$apart" "$run" "$@" &
        note worker $!
        worker=$!
        wait $worker
        code=$?
        while kill -0 $worker 2>/dev/null; do
            wait $worker
            code=$?
        done
        printf '%s\n' $code >"$F/exit"
    ) </dev/null >"$F/log" 2>&1 &
    note keeper $!
}

# Writes down a process so that it can be found again.
note() {
    printf '%s %s\n' "$2" "$(began "$2")" >"$F/$1.new" && mv -f "$F/$1.new" "$F/$1"
}

# Says how things are.
look() {
    if ! find_folder; then
        say none
        exit 0
    fi
    if ! runs "$F/worker"; then
        until_holds 10 is_over
        say "ended $(cat "$F/exit" 2>/dev/null)"
    else
        say "running $pid"
    fi
    tail -n 5 "$F/log" 2>/dev/null | sed 's/^/cw:log /'
}

# Ends the worker, and removes all that is there for it.
stop() {
    while find_folder; do
        if runs "$F/worker"; then
            kill -TERM "$pid"
            until_holds 100 has_ended
        fi
        if runs "$F/worker"; then
            kill -KILL "$pid"
            until_holds 50 has_ended || fail "process $pid does not end although it was killed"
        fi
        until_holds 20 is_over
        remove
    done
    say stopped
}

remove() {
    T=$(cat "$F/scratch" 2>/dev/null)
    HASH=$(cat "$F/program" 2>/dev/null)
    case $HASH in
        *[!0-9a-f]*) HASH='' ;;
    esac
    case $T in
        */"cw-$ID") rm -rf "$T" ;;
    esac
    why=$(rm -rf "$F" 2>&1) || fail "cannot remove $F: $why"
    # Another fleet may have come with the same program.
    if [ -n "$HASH" ] && ! cat "$BASE"/*/program 2>/dev/null | grep -q -x "$HASH"; then
        rm -f "$BASE/bin/$HASH"
    fi
    rmdir "$BASE/bin" "$BASE" 2>/dev/null
    return 0
}
