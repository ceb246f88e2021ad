"""The app kits for Android: a library module, alone or with a Play AI pack that delivers the model."""
