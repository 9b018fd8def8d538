# SPDX-License-Identifier: GPL-2.0-or-later
# nat64.bash - bash completion of nat64(8)
# shellcheck shell=bash

_nat64() {
	local options='-i --interface --device -4 --v4-prefix -6 --v6-prefix -a --allowed-src -s --static -t --timeout --icmp-src
		--icmp-rate --lowest-ipv6-mtu --wkp-strict --tos --tclass --fast --dry-run -c --config --restore -u --unload --status
		--mappings --monitor --trace --json --metrics --save --delete --flush -v --verbose -h --help -V --version'
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='' link

	# --option=value comes as three words.
	if [[ $cur == = ]]; then
		cur=''
	elif [[ $prev == = && $COMP_CWORD -ge 2 ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi

	case $prev in
	-i | --interface | --device)
		for link in /sys/class/net/*; do
			words+=" ${link##*/}"
		done
		;;
	-6 | --v6-prefix)
		words='64:ff9b::/96'
		;;
	-t | --timeout)
		words='7200'
		;;
	--icmp-rate)
		words='100'
		;;
	--lowest-ipv6-mtu)
		words='1280'
		;;
	-c | --config | --save | --restore)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--trace)
		words="host net tcp udp icmp port $options"
		;;
	-4 | --v4-prefix | -s | --static | --delete | -a | --allowed-src | --icmp-src | --tos | --tclass)
		;;
	*)
		words=$options
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _nat64 nat64
