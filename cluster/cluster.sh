#!/usr/bin/env bash
#
# Throwaway clusters of three database servers for tests, on Linux and on loopback. Not for data worth keeping: anybody
# on this machine may connect, without a password.
#
#	cluster.sh install             install what the clusters need, where it is absent (Debian 12; packages need root)
#	cluster.sh serve KIND DIR      create a cluster in DIR, and then run the verbs below, read line by line from standard
#	                               input. The creation and each verb are answered with what they have to say and a last
#	                               line ok or failed. When standard input ends, kill all servers and REMOVE DIR
#
# KIND galera is three nodes of MariaDB. Its verbs:
#
#	kill N...       kill -9 nodes, all at once
#	start N         start a node again, which joins those that run, and wait until it is in step with them
#	bootstrap N     start a node as the first one, after all were killed
#	position N      print the number of the last transaction that a killed node has
#
# KIND postgres is a primary, node 1, two standbys, and a PgBouncer in transaction mode before the primary. Each commit
# waits until one standby has it, whichever node is the primary. Its verbs:
#
#	kill N...       kill -9 nodes, all at once
#	start N         start a killed node again as what it was
#	promote N       make a standby the primary
#	follow N M      have the standby N follow M from now on
#	rejoin N M      start a killed N as a standby of M, without what it had written beyond M
#	route M         have PgBouncer lead to M
#
# The creation prints one line for each node, "node=DSN", then for PostgreSQL "cluster=DSN pgbouncer=DSN", for pgx or
# go-sql-driver/mysql. Ports are free at the creation and stay the same. Every commit is flushed. What the servers are
# run as, and how they are found again, is as in databases/servers.sh.

. "$(dirname "${BASH_SOURCE[0]}")/../databases/servers.sh"

die() {
	printf 'cluster.sh: %s\n' "$*" >&2
	exit 1
}

# --- install

install_all() {
	local packages=() log file package
	while read -r file package; do
		[[ -e $file ]] || packages+=("$package")
	done <<-END
		$postgres15/postgres postgresql-15
		/usr/sbin/pgbouncer pgbouncer
		/usr/sbin/mariadbd mariadb-server
		/usr/lib/galera/libgalera_smm.so galera-4
		/usr/bin/rsync rsync
		/usr/bin/lsof lsof
	END
	((${#packages[@]} > 0)) || return 0
	((EUID == 0)) || die "as root: apt-get install ${packages[*]}"
	log=$(mktemp)
	apt_install "${packages[@]}" >"$log" 2>&1 ||
		{ apt-get update && apt_install "${packages[@]}"; } >>"$log" 2>&1 ||
		{ tail -n 30 "$log" >&2; die "apt-get install ${packages[*]} failed; the whole log is $log"; }
	rm -f "$log"
}

check_installed() {
	local needed
	case $1 in
	galera) needed=(/usr/sbin/mariadbd /usr/bin/mariadb-install-db /usr/lib/galera/libgalera_smm.so /usr/bin/rsync /usr/bin/lsof) ;;
	postgres) needed=("$postgres15/postgres" /usr/bin/psql /usr/sbin/pgbouncer) ;;
	esac
	for file in "${needed[@]}"; do
		[[ -e $file ]] || die "$1 needs $file, which is not there; install it with: bash cluster/cluster.sh install"
	done
}

# --- both

# new_ports FILE COUNT writes so many free ports, all different, to FILE.
new_ports() {
	local port
	: >"$1"
	while (($(wc -l <"$1") < $2)); do
		port=$(free_port)
		grep -qx "$port" "$1" || echo "$port" >>"$1"
	done
}

# port N [WHICH] prints a port of node N: the one for clients, or galera's own.
port() { sed -n "$((($1 - 1) * 4 + ${2:-1}))p" "$dir/ports"; }

kill_nodes() {
	local n pids=()
	# All at once: whom a stopped one does not answer cannot tell it from a dead one.
	for n in "$@"; do
		kill -STOP "$(main_pid "$dir/$n")" || die "node $n does not run"
	done
	for n in "$@"; do
		kill_dir "$dir/$n" &
		pids+=($!)
	done
	wait "${pids[@]}"
}

# --- galera

galera_create() {
	local n addresses
	addresses=$(for n in 1 2 3; do printf '127.0.0.1:%s,' "$(port "$n" 2)"; done)
	for n in 1 2 3; do
		mkdir "$dir/$n" "$dir/$n/data"
		cat >"$dir/$n/my.cnf" <<-END
			[mysqld]
			datadir=$dir/$n/data
			tmpdir=$dir/$n
			socket=$dir/$n/socket
			pid-file=$dir/$n/pid
			port=$(port "$n")
			bind-address=127.0.0.1
			skip-name-resolve
			max_connections=200
			character-set-server=utf8mb4
			innodb_log_file_size=16M
			binlog_format=ROW
			innodb_autoinc_lock_mode=2
			wsrep_on=ON
			wsrep_provider=/usr/lib/galera/libgalera_smm.so
			wsrep_cluster_name=credit
			wsrep_cluster_address=gcomm://${addresses%,}
			wsrep_node_name=node$n
			wsrep_node_address=127.0.0.1:$(port "$n" 2)
			wsrep_node_incoming_address=127.0.0.1:$(port "$n")
			wsrep_sst_receive_address=127.0.0.1:$(port "$n" 3)
			wsrep_sst_method=rsync
			wsrep_provider_options="gmcast.listen_addr=tcp://127.0.0.1:$(port "$n" 2);ist.recv_addr=127.0.0.1:$(port "$n" 4);gcache.size=64M;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.inactive_check_period=PT0.5S;evs.keepalive_period=PT0.5S"
		END
	done
	cat >"$dir/user.sql" <<-END
		FLUSH PRIVILEGES;
		CREATE USER credit@'127.0.0.1';
		GRANT ALL PRIVILEGES ON *.* TO credit@'127.0.0.1';
		CREATE DATABASE credit;
	END
	((EUID != 0)) || chown -R mysql "$dir"
	mariadb-install-db --defaults-file="$dir/1/my.cnf" "${mysql[@]}" --auth-root-authentication-method=normal --wsrep-on=OFF \
		--skip-test-db --skip-name-resolve --extra-file="$dir/user.sql" >"$dir/create.log" 2>&1 || failed galera "$dir/create.log"
	galera_start 1 --wsrep-new-cluster
	galera_start 2
	galera_start 3
	for n in 1 2 3; do
		echo "node=credit@tcp(127.0.0.1:$(port "$n"))/credit?interpolateParams=true&timeout=1s&wsrep_sync_wait=7"
	done
}

galera_start() {
	local n=$1 at=$dir/$1 position=() pid
	shift
	if [[ -e $at/data/ibdata1 ]]; then
		# Without it the node would not know what it has, and copy everything.
		position=("--wsrep_start_position=$(galera_recovered "$n")")
	fi
	if [[ ${1:-} == --wsrep-new-cluster && -e $at/data/grastate.dat ]]; then
		sed -i 's/^safe_to_bootstrap:.*/safe_to_bootstrap: 1/' "$at/data/grastate.dat"
	fi
	rm -f "$at/pid"
	[[ ! -e $at/log ]] || mv "$at/log" "$at/log.old"
	setsid /usr/sbin/mariadbd --defaults-file="$at/my.cnf" "${mysql[@]}" "${position[@]}" "$@" </dev/null >"$at/log" 2>&1 &
	pid=$!
	disown
	echo "$pid" >"$at/session"
	if ! in_time "$start_seconds" galera_settled "$n" "$pid" || all_gone "$pid"; then
		failed "galera node $n" "$at/log"
	fi
}

galera_settled() {
	all_gone "$2" || mariadb --no-defaults -uroot -S "$dir/$1/socket" -Nse "SHOW STATUS LIKE 'wsrep_local_state_comment'" 2>/dev/null | grep -q Synced
}

# galera_recovered N prints the cluster's id and the last transaction of a node that does not run.
galera_recovered() {
	local at=$dir/$1
	/usr/sbin/mariadbd --defaults-file="$at/my.cnf" "${mysql[@]}" --wsrep-recover </dev/null >"$at/recovery" 2>&1 || failed "the recovery of node $1" "$at/recovery"
	sed -n 's/.*Recovered position: *//p' "$at/recovery" | grep . || failed "the recovery of node $1" "$at/recovery"
}

galera_verb() {
	case $* in
	kill\ [1-3]*) kill_nodes "${@:2}" ;;
	start\ [1-3]) galera_start "$2" ;;
	bootstrap\ [1-3]) galera_start "$2" --wsrep-new-cluster ;;
	position\ [1-3]) galera_recovered "$2" | sed 's/.*:/position=/' ;;
	*) die "galera does not know $*" ;;
	esac
}

# --- postgres

# A setting that is in the folder of the data would be overwritten when a node rejoins.
postgres_create() {
	local n all
	for n in 1 2 3; do
		mkdir "$dir/$n"
		((EUID != 0)) || chown postgres "$dir/$n"
		cat >"$dir/$n/postgresql.conf" <<-END
			listen_addresses = '127.0.0.1'
			port = $(port "$n")
			unix_socket_directories = ''
			max_connections = 200
			dynamic_shared_memory_type = mmap
			cluster_name = 'n$n'
			hot_standby = on
			wal_keep_size = 512MB
			synchronous_commit = on
			synchronous_standby_names = 'ANY 1 (n1, n2, n3)'
			include_if_exists = '$dir/$n/primary.conf'
		END
	done
	{
		as_user postgres "$postgres15/initdb" --pgdata="$dir/1/data" --username=postgres --auth=trust --no-locale --encoding=UTF8 \
			--data-checksums --no-sync &&
			postgres_start 1 &&
			for n in 2 3; do
				as_user postgres "$postgres15/pg_basebackup" -h 127.0.0.1 -p "$(port 1)" -U postgres -D "$dir/$n/data" -X stream -c fast --no-sync &&
					postgres_standby "$n" 1 && postgres_start "$n" || return
			done &&
			psql -X -h 127.0.0.1 -p "$(port 1)" -U postgres -c 'CREATE DATABASE credit'
	} >"$dir/create.log" 2>&1 || failed postgres "$dir/create.log"
	postgres_route 1
	all=$(for n in 1 2 3; do printf '127.0.0.1:%s,' "$(port "$n")"; done)
	for n in 1 2 3; do
		echo "node=postgres://postgres@127.0.0.1:$(port "$n")/credit?sslmode=disable"
	done
	echo "cluster=postgres://postgres@${all%,}/credit?sslmode=disable&target_session_attrs=read-write&connect_timeout=2" \
		"pgbouncer=postgres://postgres@127.0.0.1:$(sed -n 13p "$dir/ports")/credit?sslmode=disable&default_query_exec_mode=exec&connect_timeout=2"
}

postgres_start() {
	as_user postgres "$postgres15/pg_ctl" --pgdata="$dir/$1/data" --log="$dir/$1/log" --silent --wait --timeout="$start_seconds" \
		--options="-c config_file=$dir/$1/postgresql.conf" start </dev/null >/dev/null
}

# postgres_standby N M makes N a standby of M from its next start or reload.
postgres_standby() {
	echo "primary_conninfo = 'host=127.0.0.1 port=$(port "$2") user=postgres'" >"$dir/$1/primary.conf"
	as_user postgres touch "$dir/$1/data/standby.signal"
}

postgres_rejoin() {
	# Until the next checkpoint a new primary does not say that it is one.
	psql -X -h 127.0.0.1 -p "$(port "$2")" -U postgres -qc CHECKPOINT &&
		as_user postgres "$postgres15/pg_rewind" --target-pgdata="$dir/$1/data" --config-file="$dir/$1/postgresql.conf" --no-sync \
			--source-server="host=127.0.0.1 port=$(port "$2") user=postgres dbname=postgres" </dev/null &&
		postgres_standby "$1" "$2" && postgres_start "$1"
}

postgres_route() {
	local at=$dir/pgbouncer
	if [[ ! -e $at ]]; then
		mkdir "$at"
		((EUID != 0)) || chown postgres "$at"
	fi
	cat >"$at/pgbouncer.ini" <<-END
		[databases]
		* = host=127.0.0.1 port=$(port "$1") user=postgres
		[pgbouncer]
		listen_addr = 127.0.0.1
		listen_port = $(sed -n 13p "$dir/ports")
		unix_socket_dir =
		auth_type = any
		admin_users = postgres
		pool_mode = transaction
		default_pool_size = 8
		max_client_conn = 500
		server_login_retry = 1
		ignore_startup_parameters = extra_float_digits
		logfile = $at/log
		pidfile = $at/pid
	END
	if main_pid "$at" >/dev/null; then
		kill -HUP "$(main_pid "$at")"
		return
	fi
	as_user postgres /usr/sbin/pgbouncer -q -d "$at/pgbouncer.ini" </dev/null >/dev/null
	in_time "$start_seconds" main_pid "$at" >/dev/null || failed pgbouncer "$at/log"
}

postgres_verb() {
	case $* in
	kill\ [1-3]*) kill_nodes "${@:2}" ;;
	start\ [1-3]) postgres_start "$2" || failed "postgres node $2" "$dir/$2/log" ;;
	promote\ [1-3]) as_user postgres "$postgres15/pg_ctl" --pgdata="$dir/$2/data" --silent --wait --timeout="$start_seconds" promote </dev/null ;;
	follow\ [1-3]\ [1-3])
		postgres_standby "$2" "$3"
		as_user postgres "$postgres15/pg_ctl" --pgdata="$dir/$2/data" --silent reload </dev/null
		;;
	rejoin\ [1-3]\ [1-3])
		postgres_rejoin "$2" "$3" >"$dir/$2/rejoin.log" 2>&1 || {
			cat "$dir/$2/rejoin.log" >&2
			failed "postgres node $2" "$dir/$2/log"
		}
		;;
	route\ [1-3]) postgres_route "$2" ;;
	*) die "postgres does not know $*" ;;
	esac
}

# --- serve

# remove ends every server at once, with what copies data for it, and leaves nothing.
remove() {
	local n pids
	for n in 1 2 3 pgbouncer; do
		kill_dir "$dir/$n" || true
		if [[ -s $dir/$n/session ]]; then
			mapfile -t pids < <(pgrep -s "$(<"$dir/$n/session")")
			for pid in "${pids[@]}"; do
				# The number may be somebody else's by now.
				if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$dir/"; then
					kill -KILL "$pid" 2>/dev/null || true
				fi
			done
		fi
	done
	rm -rf "$dir"
}

answer() {
	if bash "${BASH_SOURCE[0]}" "$@" </dev/null 2>&1; then
		echo ok
	else
		echo failed
	fi 2>/dev/null
}

# serve: one verb at a time, so that when standard input ends in the middle of one, it is finished first and nothing
# escapes.
serve() {
	local words
	check_installed "$kind"
	mkdir -p "$dir"
	[[ -z $(ls -A "$dir") ]] || die "$dir is not empty, and serve removes it"
	# The other side may be gone, or end with a signal to the whole group.
	trap '' PIPE INT TERM HUP
	trap remove EXIT
	answer create "$kind" "$dir" || return 0
	while read -r -a words; do
		answer verb "$kind" "$dir" "${words[@]}" || return 0
	done
}

usage() {
	awk 'NR > 2 && !/^#/ { exit } NR > 2 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}" >&2
	exit 2
}

if [[ ${1:-} == install ]]; then
	install_all
	exit
fi
(($# >= 3)) || usage
kind=$2
dir=$(realpath -m -- "$3")
[[ $kind == galera || $kind == postgres ]] || usage
mysql=() # the user that a server runs as
if ((EUID == 0)); then
	mysql=(--user=mysql)
fi
if [[ $1 != serve ]]; then
	cd "$dir" || die "no folder $dir"
fi
case $1 in
serve) serve ;;
create)
	((${#dir} < 100)) || die "the name of the folder $dir is too long for a socket in it"
	chmod 755 "$dir"
	new_ports "$dir/ports" 13
	if [[ $kind == postgres ]] && ((EUID == 0)); then
		as_user postgres test -x "$dir" || die "the user postgres cannot enter $dir: have TMPDIR name a folder where it can"
	fi
	"${kind}_create"
	;;
verb) "${kind}_verb" "${@:4}" ;;
*) usage ;;
esac
