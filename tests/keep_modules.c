/* Only in builds with AddressSanitizer: shared objects stay loaded. What a Vulkan driver or layer
 * keeps in its globals until the process ends would be reported as a leak once it is unloaded. */
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
