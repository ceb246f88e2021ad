"""A device over OpenSSH: `transport` is the plug-in, `link` the connection, `keeper` what runs on the device, `failures` ssh's words as our errors."""
