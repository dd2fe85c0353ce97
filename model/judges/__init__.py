"""The trained networks that judge pictures: Inception for FID, DeepLabV2 for segmentation scores."""
