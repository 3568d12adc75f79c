# SPDX-License-Identifier: GPL-2.0
# For gdb on a host process, by the host program's own names (overlay/host): the command `crash`.
define crash
  set $number = ((struct hk_header *) shm)->crashed
  if $number == 0
    printf "no kernel of this process has crashed\n"
  else
    set $about = kernels[$number - 1].shared
    printf "%s\n", $about->what
    set $rip = $about->ip
    set $rsp = $about->sp
    set $rbp = $about->bp
    backtrace
  end
end
document crash
Shows the kernel at the moment of its crash: backtrace, up, info locals ... Don't go on from there.
end
