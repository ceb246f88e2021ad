"""A device over OpenSSH: `transport` is the plug-in, `link` the connection, `keeper` what runs on the device, in its `private_folder`, `failures` ssh's words as our errors."""
